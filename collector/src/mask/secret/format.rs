//! The formats of known credentials: a prefix, what follows it, and how much.
//!
//! Holds no credential; examples are made at test time.

/// Which bytes may follow a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Letters and digits.
    Alnum,
    /// Letters, digits, `_` and `-`.
    Token,
    /// The same and `.`.
    Dotted,
    /// Upper-case letters and digits, exactly the least number of them.
    UpperExact,
    /// Lower-case hex digits.
    Hex,
    /// The rest of a URL's path.
    Path,
    /// Base64 with padding.
    Base64,
}

impl Body {
    pub(super) fn holds(self, byte: u8) -> bool {
        match self {
            Body::Alnum => byte.is_ascii_alphanumeric(),
            Body::Token => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Body::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Body::UpperExact => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Body::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Body::Path => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'),
            Body::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
        }
    }
}

/// One format.
pub(super) struct Format {
    pub(super) prefix: &'static str,
    pub(super) body: Body,
    /// Fewest bytes after the prefix.
    pub(super) least: usize,
}

const fn format(prefix: &'static str, body: Body, least: usize) -> Format {
    Format { prefix, body, least }
}

/// Where one prefix begins another, the longer comes first.
pub(super) const FORMATS: &[Format] = &[
    // Model providers.
    format("sk-ant-", Body::Token, 20),
    format("sk-proj-", Body::Token, 20),
    format("sk-svcacct-", Body::Token, 20),
    format("sk-admin-", Body::Token, 20),
    format("sk-or-v1-", Body::Token, 20),
    format("sk-lf-", Body::Token, 20),
    format("pk-lf-", Body::Token, 20),
    format("sk-", Body::Token, 20),
    format("gsk_", Body::Alnum, 20),
    format("xai-", Body::Alnum, 20),
    format("pplx-", Body::Alnum, 20),
    format("hf_", Body::Alnum, 20),
    format("api_org_", Body::Alnum, 30),
    format("r8_", Body::Alnum, 30),
    format("nvapi-", Body::Token, 30),
    format("tgp_v1_", Body::Token, 20),
    format("fw_", Body::Alnum, 22),
    format("csk-", Body::Alnum, 30),
    format("lsv2_", Body::Token, 30),
    format("pcsk_", Body::Token, 30),
    format("tvly-", Body::Token, 20),
    format("jina_", Body::Token, 30),
    format("voyage-", Body::Token, 36),
    // Code hosts and registries.
    format("ghp_", Body::Alnum, 30),
    format("gho_", Body::Alnum, 30),
    format("ghu_", Body::Alnum, 30),
    format("ghs_", Body::Alnum, 30),
    format("ghr_", Body::Alnum, 30),
    format("github_pat_", Body::Token, 22),
    format("glpat-", Body::Dotted, 20),
    format("gldt-", Body::Token, 20),
    format("glrt-", Body::Dotted, 20),
    format("ATATT3", Body::Base64, 30),
    format("ATBB", Body::Alnum, 28),
    format("npm_", Body::Alnum, 30),
    format("pypi-AgE", Body::Token, 40),
    format("dckr_pat_", Body::Token, 20),
    format("rubygems_", Body::Hex, 40),
    format("CLOJARS_", Body::Alnum, 40),
    // Clouds.
    format("AKIA", Body::UpperExact, 16),
    format("ASIA", Body::UpperExact, 16),
    format("ABIA", Body::UpperExact, 16),
    format("ACCA", Body::UpperExact, 16),
    format("AIza", Body::Token, 35),
    format("ya29.", Body::Dotted, 20),
    format("GOCSPX-", Body::Token, 20),
    format("AccountKey=", Body::Base64, 40),
    format("SharedAccessKey=", Body::Base64, 30),
    format("dop_v1_", Body::Hex, 40),
    format("doo_v1_", Body::Hex, 40),
    format("dor_v1_", Body::Hex, 40),
    format("dapi", Body::Hex, 32),
    format("hvs.", Body::Token, 20),
    format("hvb.", Body::Token, 20),
    format("atlasv1.", Body::Token, 30),
    format("tskey-", Body::Token, 20),
    format("pul-", Body::Hex, 40),
    format("FlyV1 ", Body::Token, 30),
    format("AGE-SECRET-KEY-1", Body::Alnum, 50),
    // Services.
    format("xoxb-", Body::Token, 20),
    format("xoxp-", Body::Token, 20),
    format("xoxa-", Body::Token, 20),
    format("xoxs-", Body::Token, 20),
    format("xoxr-", Body::Token, 20),
    format("xoxe.", Body::Dotted, 20),
    format("xapp-", Body::Token, 20),
    format("https://hooks.slack.com/", Body::Path, 20),
    format("https://discord.com/api/webhooks/", Body::Path, 40),
    format("sk_live_", Body::Alnum, 16),
    format("sk_test_", Body::Alnum, 16),
    format("rk_live_", Body::Alnum, 16),
    format("rk_test_", Body::Alnum, 16),
    format("whsec_", Body::Base64, 24),
    format("sq0atp-", Body::Token, 20),
    format("sq0csp-", Body::Token, 30),
    format("shpat_", Body::Hex, 32),
    format("shpss_", Body::Hex, 32),
    format("shpca_", Body::Hex, 32),
    format("SG.", Body::Dotted, 40),
    format("key-", Body::Hex, 32),
    format("lin_api_", Body::Alnum, 30),
    format("ntn_", Body::Alnum, 30),
    format("secret_", Body::Alnum, 40),
    format("figd_", Body::Token, 30),
    format("PMAK-", Body::Token, 30),
    format("sntrys_", Body::Base64, 30),
    format("glsa_", Body::Token, 30),
    format("NRAK-", Body::Alnum, 20),
    format("phx_", Body::Alnum, 30),
    format("EAAC", Body::Alnum, 60),
    format("sbp_", Body::Hex, 40),
    format("re_", Body::Token, 24),
];
