//! `/services`.

use serde_json::json;

use super::*;

#[tokio::test]
async fn services_are_listed_as_the_contract_says() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "b", "127.0.0.1:2".parse().unwrap(), 0);
    gateway.knows(PROVIDE, "a", "127.0.0.1:1".parse().unwrap(), 0);
    gateway.knows(INGEST, "i", "10.0.0.1:3".parse().unwrap(), 0);
    let provide = json!({
        "service_name": PROVIDE,
        "instance_count": 2,
        "registered_at": "2026-01-02T03:04:05Z",
        "instances": [
            {"instance": "a", "ip_address": "127.0.0.1", "port_number": 1},
            {"instance": "b", "ip_address": "127.0.0.1", "port_number": 2},
        ],
    });
    let one: Value =
        gateway.get("/services/lizards-provide").send().await.unwrap().json().await.unwrap();
    assert_eq!(one, provide);
    let all: Value = gateway.get("/services").send().await.unwrap().json().await.unwrap();
    assert_eq!(all["services"][0]["service_name"], INGEST);
    assert_eq!(all["services"][1], provide);
    assert_eq!(problem(gateway.get("/services/none")).await.0, 404);
}

#[tokio::test]
async fn a_foreign_service_comes_and_goes() {
    let gateway = Gateway::unlimited().await;
    let body = json!({
        "name": "one", "ip_address": "192.0.2.1", "port_number": 9000, "protocol": "HTTP",
    });
    let post = || gateway.client.post(gateway.url("/services/reports")).json(&body).send();
    let first = post().await.unwrap();
    assert_eq!(first.status(), 200);
    let first: Value = first.json().await.unwrap();
    assert_eq!((&first["instance"], &first["protocol"]), (&json!("one"), &json!("http")));
    let renewed: Value = post().await.unwrap().json().await.unwrap();
    assert_eq!(renewed["registered_at"], first["registered_at"]);
    let entry: Value = gateway.get("/services/reports").send().await.unwrap().json().await.unwrap();
    assert_eq!(entry["instance_count"], 1);

    let delete = || gateway.client.delete(gateway.url("/services/reports/one"));
    assert_eq!(delete().send().await.unwrap().status(), 204);
    assert_eq!(problem(delete()).await.0, 404);
}

#[tokio::test]
async fn a_bad_registration_is_refused_by_the_name_of_its_field() {
    let gateway = Gateway::unlimited().await;
    let right = json!({
        "name": "one", "ip_address": "192.0.2.1", "port_number": 9000, "protocol": "http",
    });
    let wrong = [
        ("name", json!("a.b")),
        ("name", json!("")),
        ("name", json!(7)),
        ("ip_address", json!("somewhere")),
        ("port_number", json!(0)),
        ("port_number", json!(65_536)),
        ("port_number", json!("9000")),
        ("protocol", json!("pigeon")),
        ("colour", json!("green")),
    ];
    let post = |service: &str, body: &Value| {
        gateway.client.post(gateway.url(&format!("/services/{service}"))).json(body)
    };
    for (field, value) in wrong {
        let mut body = right.clone();
        body[field] = value.clone();
        let (status, detail) = problem(post("reports", &body)).await;
        assert_eq!(status, 400);
        assert!(detail.starts_with(&format!("{field}: ")), "{value}: {detail}");
    }
    for field in ["name", "ip_address", "port_number", "protocol"] {
        let mut body = right.clone();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(problem(post("reports", &body)).await, (400, format!("{field}: is missing")));
    }
    assert_eq!(problem(post("reports", &json!([]))).await.0, 400);
    assert!(problem(post("a.b", &right)).await.1.starts_with("service: "));
    assert_eq!(problem(post("%FF", &right)).await.0, 400);
    let large = gateway.client.post(gateway.url("/services/reports")).body(vec![b' '; 3_000_000]);
    assert_eq!(problem(large).await.0, 413);
    assert!(gateway.registry.all().is_empty());
}

#[tokio::test]
async fn nobody_registers_in_the_name_of_our_own_services() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "p", "127.0.0.1:1".parse().unwrap(), 0);
    let body = json!({
        "name": "evil", "ip_address": "192.0.2.1", "port_number": 9000, "protocol": "http",
    });
    let post = gateway.client.post(gateway.url("/services/lizards-provide")).json(&body);
    assert_eq!(problem(post).await.0, 400);
    let delete = |name: &str| {
        gateway.client.delete(gateway.url(&format!("/services/lizards-provide/{name}")))
    };
    assert_eq!(problem(delete("p")).await.0, 403);
    assert_eq!(problem(delete("q")).await.0, 404);
    assert_eq!(gateway.registry.all().len(), 1);
}
