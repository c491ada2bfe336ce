//! Who may look, and who may order.

use super::{OPERATE, READ, admin};
use crate::harness::gateway::Setup;

#[tokio::test]
async fn each_token_is_good_for_its_right_and_nothing_shows_without_one() {
    const ENDPOINT: &str = "ops-tokens";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let wake = format!("/api/v1/endpoints/{ENDPOINT}/wake");
    let looks = [
        "/metrics",
        "/api/v1/endpoints",
        "/api/v1/events",
        "/api/v1/config",
    ];
    for path in looks {
        let stranger = gateway.http(None).get(path).await;
        assert_eq!(stranger.status, 401, "{path}");
        assert_eq!(stranger.headers["www-authenticate"], "Bearer");
        assert_eq!(
            gateway.http("wrong-token-for-tests").get(path).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(gateway.http(READ).get("/api/v1/version").await.status, 200);
    let (status, error) = gateway.http(READ).post(&wake).await.error();
    assert_eq!((status, &*error), (403, "this token is only for looking"));
    assert_eq!(gateway.http(None).post(&wake).await.status, 401);
    assert_eq!(gateway.wakes(ENDPOINT), 0, "nobody was allowed to wake it");

    assert_eq!(gateway.http(OPERATE).post(&wake).await.status, 200);

    assert_eq!(gateway.wakes(ENDPOINT), 1);
}

#[tokio::test]
async fn a_loopback_port_without_tokens_may_be_looked_at_and_by_no_web_page() {
    let gateway = Setup::new().admin("").listed("ops-open", "").start().await;
    let http = gateway.http(None);

    let looked = http.get("/api/v1/endpoints").await;
    let rebound = http
        .clone()
        .under("pgwake.evil.example")
        .get("/api/v1/endpoints")
        .await;
    let ordered = http.post("/api/v1/endpoints/ops-open/wake").await;

    assert_eq!(looked.json()["items"][0]["endpoint"], "ops-open");
    assert_eq!(rebound.status, 421, "{rebound:?}");
    let nobody = (403, "nobody may: admin.operate_tokens is empty".to_owned());
    assert_eq!(ordered.error(), nobody);
    assert_eq!(gateway.wakes("ops-open"), 0);
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_what_is_right() {
    let gateway = admin().listed("ops-paths", "").start().await;
    let http = gateway.http(OPERATE);

    let order_looked_at = http.get("/api/v1/endpoints/ops-paths/wake").await;
    let list_ordered = http.post("/api/v1/endpoints").await;
    let deleted = http.ask("DELETE", "/api/v1/endpoints/ops-paths").await;
    let nothing_deleted = http.ask("DELETE", "/api/v1/nothing").await;
    let unknown = http.get("/api/v1/endpoints/ops-nobody").await;
    let slip = http.get("/api/v1/endpoints?sate=awake").await;

    assert_eq!(order_looked_at.status, 405);
    assert_eq!(order_looked_at.headers["allow"], "POST");
    assert_eq!(list_ordered.status, 405);
    assert_eq!(list_ordered.headers["allow"], "GET, HEAD");
    assert_eq!(deleted.status, 405);
    assert_eq!(deleted.headers["allow"], "GET, HEAD");
    assert_eq!(nothing_deleted.status, 404);
    assert_eq!(unknown.error(), (404, "there is no such endpoint".to_owned()));
    assert_eq!(slip.status, 400);
    assert_eq!(gateway.wakes("ops-paths"), 0);
}
