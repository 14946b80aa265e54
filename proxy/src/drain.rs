//! How a connection ends while the process does: never under a request that is on its way.
//!
//! A server that closes an idle connection may find that a request had just been sent on it, which then fails. So the
//! next answer says that it is the connection's last, and only a connection on which nothing happens is closed.

use crate::line::{Line, Phase};
use http::{HeaderValue, Response, StatusCode, Version, header};
use std::time::Duration;
use tokio::sync::watch;

/// A connection on which nothing happened for so long is closed.
const LINGER: Duration = Duration::from_millis(500);

/// Waits until the process is to end and the connection can be told so. HTTP/2 says for itself which requests it still
/// takes.
pub(crate) async fn until_it_may_close(line: &Line, mut shutdown: watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        return;
    }
    while line.phase() != Phase::Free {
        let accepted = line.accepted();
        let is_idle = line.phase() == Phase::Head;
        tokio::time::sleep(LINGER).await;
        if is_idle && line.phase() == Phase::Head && line.accepted() == accepted {
            return;
        }
    }
}

/// Makes an answer tell its client to send no more on this connection.
pub(crate) fn make_last<B>(response: &mut Response<B>, version: Version) {
    if version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
}
