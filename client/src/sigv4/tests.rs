use super::*;

fn signing(region: &str, service: &str, token: Option<&str>) -> Signing {
    Signing {
        region: region.into(),
        service: service.into(),
        credentials: Some(AwsCredentials {
            // The example credentials of AWS's documentation.
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(Secret::new),
        }),
    }
}

fn signed(
    signing: &Signing,
    (method, url): (&str, &str),
    given: &[(&'static str, &'static str)],
    body: &str,
    now: &str,
) -> HeaderMap {
    let uri: Uri = url.parse().unwrap();
    let mut headers: HeaderMap = given
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
    headers.insert(header::HOST, uri.host().unwrap().parse().unwrap());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    signing.sign(&method, &uri, &mut headers, body.as_bytes(), now.parse().unwrap());
    headers
}

fn signature(headers: &HeaderMap) -> (String, String) {
    let text = headers[header::AUTHORIZATION].to_str().unwrap();
    let field = |name: &str| {
        text.split(&format!("{name}="))
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    (field("SignedHeaders"), field("Signature"))
}

const DOCUMENTED: &str = "2015-08-30T12:36:00Z";

#[test]
fn the_examples_of_awss_documentation_are_signed_as_it_says() {
    let service = signing("us-east-1", "service", None);
    let iam = signing("us-east-1", "iam", None);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let form_utf8 = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    for (signing, target, headers, body, names, expected) in [
        (
            &service,
            ("GET", "https://example.amazonaws.com/"),
            vec![],
            "",
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            &service,
            ("GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1"),
            vec![],
            "",
            "host;x-amz-date",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            &service,
            ("POST", "https://example.amazonaws.com/"),
            vec![form],
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            &iam,
            ("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"),
            vec![form_utf8],
            "",
            "content-type;host;x-amz-date",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ] {
        let headers = signed(signing, target, &headers, body, DOCUMENTED);
        assert_eq!(
            signature(&headers),
            (names.to_owned(), expected.to_owned()),
            "{target:?}"
        );
        assert_eq!(headers[DATE], "20150830T123600Z");
    }
}

/// The expected signatures are botocore's (1.44.5).
#[test]
fn bedrocks_calls_are_signed_as_its_sdk_signs_them() {
    let signing = signing("us-west-2", "bedrock", Some("TOKEN/of+a=session"));
    let json = ("content-type", "application/json");
    let base = "https://bedrock-runtime.us-west-2.amazonaws.com";
    let now = "2026-11-21T08:15:00Z";
    let escaped = format!("{base}/model/us.amazon.nova-lite-v1%3A0/converse-stream");
    let mine = [json, ("x-amzn-bedrock-trace", "ENABLED"), ("x-amz-meta", "a  b")];
    let headers = signed(&signing, ("POST", &escaped), &mine, r#"{"messages":[]}"#, now);
    assert_eq!(
        signature(&headers),
        (
            "content-type;host;x-amz-date;x-amz-meta;x-amz-security-token".to_owned(),
            "b789e5db0db0ff5fc5cf25ff6f98f570f9a35f623454916111eae8e60b1f04fc".to_owned()
        )
    );
    let raw = format!("{base}//model/a.b:0/./invoke");
    let headers = signed(&signing, ("POST", &raw), &[json], "{\"é\":1}", now);
    let expected = "e8689348fae4b4b9ed097c1f208001610b0b6bd0d5a5ba071460bbbe2f43e40f";
    assert_eq!(signature(&headers).1, expected);
}

#[test]
fn what_the_client_signed_with_is_gone() {
    let signing = signing("us-east-1", "bedrock", None);
    let clients = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=CLIENT/x"),
        ("x-amz-date", "20000101T000000Z"),
        ("x-amz-security-token", "client's"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ];
    let headers = signed(&signing, ("POST", "https://h/"), &clients, "", DOCUMENTED);
    assert!(headers.get(TOKEN).is_none() && headers.get(CONTENT_SHA256).is_none());
    assert_eq!(headers.get_all(header::AUTHORIZATION).iter().count(), 1);
    assert!(!format!("{headers:?}").contains("CLIENT"));
}

#[test]
fn region_and_service_are_read_from_the_host() {
    let pair = |region: &str, service: &str| Some((region.to_owned(), service.to_owned()));
    for (host, expected) in [
        ("bedrock-runtime.us-east-1.amazonaws.com", pair("us-east-1", "bedrock")),
        (
            "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
            pair("us-gov-west-1", "bedrock"),
        ),
        (
            "vpce-0f-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com",
            pair("eu-central-1", "bedrock"),
        ),
        (
            "runtime.sagemaker.ap-southeast-2.amazonaws.com",
            pair("ap-southeast-2", "sagemaker"),
        ),
        (
            "bedrock-runtime.cn-north-1.amazonaws.com.cn",
            pair("cn-north-1", "bedrock"),
        ),
        ("localhost", None),
        ("us-east-1.example.org", None),
    ] {
        assert_eq!(Signing::of_host(host), expected, "{host}");
    }
}
