//! An S3 server in the test process that keeps its objects in a folder, and can be given the oddities of others.

use async_trait::async_trait;
use backstay::bridge::{TestTimer, Timer};
use backstay::store::s3::{S3Spec, testing};
use futures::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "bucket";

/// What a server does otherwise than Amazon's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Oddities {
    /// A put with `If-None-Match: *` overwrites.
    pub overwrites: bool,
    /// `x-amz-checksum-sha256` is taken and not compared.
    pub no_checksums: bool,
    /// `x-amz-checksum-sha256` is an unsupported header.
    pub refuses_checksums: bool,
    /// A range is answered with 200 and its `Content-Range`.
    pub ranges_are_200: bool,
    /// Ranges are not known: the whole object comes.
    pub no_ranges: bool,
    /// Nothing may be deleted.
    pub no_deletes: bool,
}

/// What happened at the server; faults to come.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Parts taken.
    pub parts: AtomicU32,
    /// From this part taken on (counted over the life of the server) all are refused with an error that is no use repeating; 0 is never.
    pub parts_end: AtomicU32,
    pub heads: AtomicU32,
    pub puts: AtomicU32,
    pub aborts: AtomicU32,
}

struct Odd {
    inner: FileSystem,
    odd: Oddities,
    events: Arc<Events>,
    /// Uploads that were begun here.
    begun: Mutex<HashSet<String>>,
}

/// Takes a body to its end, so that who sends it gets the answer: an answer before it, and then the end of the connection, may be lost on the way.
async fn drain(body: Option<StreamingBlob>) {
    if let Some(mut body) = body {
        while let Some(Ok(_)) = body.next().await {}
    }
}

fn count(of: &AtomicU32) -> u32 {
    of.fetch_add(1, Ordering::SeqCst) + 1
}

#[async_trait]
impl S3 for Odd {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.inner.create_bucket(req).await
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        count(&self.events.puts);
        if self.odd.refuses_checksums && req.input.checksum_sha256.is_some() {
            return Err(s3_error!(InvalidArgument, "Unsupported header 'x-amz-checksum-sha256'"));
        }
        if self.odd.overwrites {
            req.input.if_none_match = None;
        }
        if self.odd.no_checksums {
            req.input.checksum_sha256 = None;
        }
        self.inner.put_object(req).await
    }

    async fn get_object(&self, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        if self.odd.no_ranges {
            req.input.range = None;
        }
        let ranged = req.input.range.is_some();
        let mut response = self.inner.get_object(req).await?;
        if ranged && self.odd.ranges_are_200 {
            response.status = Some(http::StatusCode::OK);
        }
        Ok(response)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        count(&self.events.heads);
        self.inner.head_object(req).await
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.inner.list_objects_v2(req).await
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        if self.odd.no_deletes {
            return Err(s3_error!(AccessDenied, "not allowed to delete"));
        }
        self.inner.delete_object(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let response = self.inner.create_multipart_upload(req).await?;
        self.begun.lock().unwrap().extend(response.output.upload_id.clone());
        Ok(response)
    }

    async fn upload_part(
        &self,
        mut req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        if self.odd.refuses_checksums && req.input.checksum_sha256.is_some() {
            return Err(s3_error!(InvalidArgument, "Unsupported header 'x-amz-checksum-sha256'"));
        }
        if self.odd.no_checksums {
            req.input.checksum_sha256 = None;
        }
        if !self.begun.lock().unwrap().contains(&req.input.upload_id) {
            drain(req.input.body.take()).await;
            return Err(s3_error!(AccessDenied, "there is no such upload"));
        }
        let end = self.events.parts_end.load(Ordering::SeqCst);
        let room = |parts: u32| (end == 0 || parts < end).then_some(parts + 1);
        if self.events.parts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_err() {
            drain(req.input.body.take()).await;
            return Err(s3_error!(AccessDenied, "no more parts"));
        }
        self.inner.upload_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        if self.odd.overwrites {
            req.input.if_none_match = None;
        }
        self.inner.complete_multipart_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        count(&self.events.aborts);
        self.inner.abort_multipart_upload(req).await
    }
}

/// A running server; ends with the value.
pub(crate) struct Server {
    dir: TempDir,
    pub endpoint: String,
    pub events: Arc<Events>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(odd: Oddities) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let events = Arc::new(Events::default());
        let inner = FileSystem::new(dir.path()).unwrap();
        let mut builder =
            S3ServiceBuilder::new(Odd { inner, odd, events: Arc::clone(&events), begun: Mutex::default() });
        builder.set_auth(SimpleAuth::from_single("test-key-id", "test-secret-key"));
        let service = builder.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || serve(listener, &service, stopped));
        Self { dir, endpoint, events, stop: Some(stop), thread: Some(thread) }
    }

    /// Where the objects lie.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }

    /// A store at `prefix`; its state lies in `state`.
    pub(crate) fn spec(&self, prefix: &str, state: &Path) -> S3Spec {
        let mut spec = S3Spec::new("offsite", BUCKET, state, testing::keys());
        (spec.endpoint, spec.path_style) = (Some(self.endpoint.clone()), true);
        spec.prefix = prefix.to_owned();
        spec.whole_max = 16 << 20; // so that parts can be tried with little
        // Pauses take no time; guards run at their own, because a busy machine must not look like a server that stands still.
        spec.timer = Arc::new(TestTimer::new(1)) as Arc<dyn Timer>;
        spec
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: std::net::TcpListener, service: &S3Service, stopped: tokio::sync::oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accept = async {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let _ = socket.set_nodelay(true);
                let service = service.clone();
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        };
        let _: futures::future::Either<((), _), _> =
            futures::future::select(Box::pin(accept), Box::pin(stopped)).await;
    });
    runtime.shutdown_background();
}
