//! Which documents are known, by `apiVersion` and `kind`.

/// What becomes of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    ProxyConfig,
    Backend,
    TrafficPolicy,
    AccessPolicy,
    Routing(RoutingKind),
}

/// A document about where requests and connections go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum RoutingKind {
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    TlsRoute,
    Service,
    EndpointSlice,
    DirectResponse,
}

/// Why a document is not known.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum UnknownKind {
    #[error("is not known; the kinds are {}", names())]
    Kind,
    #[error("has no {kind}; write {}", versions.join(" or "))]
    ApiVersion { kind: &'static str, versions: &'static [&'static str] },
}

const OURS: &[&str] = &["sidecar.dev/v1alpha1"];

/// Routes are of the versions that the Gateway API 1.5 serves or served before.
const KINDS: &[(&str, &[&str], Kind)] = &[
    ("ProxyConfig", OURS, Kind::ProxyConfig),
    ("Backend", OURS, Kind::Backend),
    ("TrafficPolicy", OURS, Kind::TrafficPolicy),
    ("AccessPolicy", OURS, Kind::AccessPolicy),
    ("DirectResponse", OURS, Kind::Routing(RoutingKind::DirectResponse)),
    ("Service", &["v1"], Kind::Routing(RoutingKind::Service)),
    ("EndpointSlice", &["discovery.k8s.io/v1"], Kind::Routing(RoutingKind::EndpointSlice)),
    (
        "HTTPRoute",
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
        Kind::Routing(RoutingKind::HttpRoute),
    ),
    ("GRPCRoute", &["gateway.networking.k8s.io/v1"], Kind::Routing(RoutingKind::GrpcRoute)),
    (
        "TCPRoute",
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"],
        Kind::Routing(RoutingKind::TcpRoute),
    ),
    (
        "TLSRoute",
        &[
            "gateway.networking.k8s.io/v1",
            "gateway.networking.k8s.io/v1alpha3",
            "gateway.networking.k8s.io/v1alpha2",
        ],
        Kind::Routing(RoutingKind::TlsRoute),
    ),
];

/// What becomes of a document of this `apiVersion` and `kind`.
pub(super) fn recognise(api_version: &str, kind: &str) -> Result<Kind, UnknownKind> {
    let Some((name, versions, known)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
        return Err(UnknownKind::Kind);
    };
    if !versions.contains(&api_version) {
        return Err(UnknownKind::ApiVersion { kind: name, versions });
    }
    Ok(*known)
}

fn names() -> String {
    KINDS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}
