//! Dry runs by gRPC: `dataprocessor.DataProcessor/ProcessData`, with reflection (for grpcurl) and
//! `grpc.health.v1`.

use std::sync::Arc;

use axum::Router;
use tonic::{
    Request, Response, Status, codegen::Service, metadata::KeyAndValueRef, server::NamedService,
};
use tonic_health::server::{HealthReporter, health_reporter};
use tonic_reflection::server::{Builder, Error};

use super::{DryRuns, MAX_CONTENT_BYTES, Refusal, request};
use proto::{
    ProcessingResponse, RawData,
    data_processor_server::{DataProcessor, DataProcessorServer},
};

/// Made from `proto/dataprocessor.proto`; `tests/proto.rs` sees to it.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    include!("generated/dataprocessor.rs");
}

/// The same as a descriptor, for reflection.
const DESCRIPTOR: &[u8] = include_bytes!("generated/dataprocessor.bin");

/// A message has some bytes around its content.
const MAX_MESSAGE_BYTES: usize = 2 * MAX_CONTENT_BYTES;

type Server = DataProcessorServer<DryRuns>;

/// The services.
pub(crate) struct Grpc {
    /// Answers them, and nothing else.
    pub(crate) router: Router,
    health: HealthReporter,
}

impl Grpc {
    /// Answers by dry runs. An error is one of the descriptor.
    pub(crate) async fn new(runs: Arc<DryRuns>) -> Result<Self, Error> {
        let server = Server::from_arc(runs).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (health, health_server) = health_reporter();
        health.set_serving::<Server>().await;
        let described = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTOR)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let router = route(Router::new(), server);
        let router = route(router, health_server);
        let router = route(router, described().build_v1()?);
        let router = route(router, described().build_v1alpha()?);
        Ok(Self { router, health })
    }

    /// Ends the watching of the health: whoever watches would hold up the shutdown.
    pub(crate) async fn close(&mut self) {
        self.health.clear_service_status("").await;
        self.health.clear_service_status(Server::NAME).await;
    }
}

/// What is no method of a service of ours stays not found, which clients take for unimplemented.
fn route<S>(router: Router, service: S) -> Router
where
    S: Service<
            axum::extract::Request,
            Response = axum::http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    router.route_service(&format!("/{}/{{method}}", S::NAME), service)
}

#[tonic::async_trait]
impl DataProcessor for DryRuns {
    async fn process_data(
        &self,
        request: Request<RawData>,
    ) -> Result<Response<ProcessingResponse>, Status> {
        let (metadata, _, RawData { content }) = request.into_parts();
        let read = request::Request::new(content.into()).and_then(|mut read| {
            for entry in metadata.iter() {
                // `content-type` is that of gRPC itself.
                if let KeyAndValueRef::Ascii(key, value) = entry
                    && key != "content-type"
                {
                    let value = value.to_str().map_err(|_| {
                        Refusal::invalid(key.as_str(), "has other characters than ASCII")
                    })?;
                    read.set(key.as_str(), value)?;
                }
            }
            Ok(read)
        });
        let answer = self.run(read).await.map_err(|refusal| {
            let said = refusal.to_string();
            match refusal {
                Refusal::Invalid { .. } => Status::invalid_argument(said),
                Refusal::Busy => Status::resource_exhausted(said),
                Refusal::Late => Status::deadline_exceeded(said),
                Refusal::Failed => Status::internal(said),
            }
        })?;
        let (status, message) = (answer.status.as_str().to_owned(), answer.json);
        Ok(Response::new(ProcessingResponse { status, message }))
    }
}
