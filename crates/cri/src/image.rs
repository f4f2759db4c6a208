//! The calls of `runtime.v1.ImageService`.

use std::time::Duration;

use crate::message::*;
use crate::{Client, Error};

const LOOK: Duration = Duration::from_secs(30);
const REMOVE: Duration = Duration::from_secs(2 * 60);
/// A pull is bounded by whether it gets on, which the runtime watches; this
/// only keeps a call from staying for ever.
const PULL: Duration = Duration::from_secs(60 * 60);

macro_rules! path {
    ($method:literal) => {
        concat!("/runtime.v1.ImageService/", $method)
    };
}

impl Client {
    /// The images on the node.
    pub async fn list_images(&self) -> Result<Vec<Image>, Error> {
        let answer: ListImagesResponse = self
            .call(path!("ListImages"), LOOK, ListImagesRequest::default())
            .await?;
        Ok(answer.images)
    }

    /// An image on the node, if it is there.
    pub async fn image_status(&self, image: ImageSpec) -> Result<Option<Image>, Error> {
        let request = ImageStatusRequest {
            image: Some(image),
            verbose: false,
        };
        let answer: ImageStatusResponse = self.call(path!("ImageStatus"), LOOK, request).await?;
        Ok(answer.image)
    }

    /// Fetches an image from its registry. Returns the reference to run it by.
    pub async fn pull_image(
        &self,
        image: ImageSpec,
        auth: Option<AuthConfig>,
        sandbox_config: Option<PodSandboxConfig>,
    ) -> Result<String, Error> {
        let request = PullImageRequest {
            image: Some(image),
            auth,
            sandbox_config,
        };
        let answer: PullImageResponse = self.call(path!("PullImage"), PULL, request).await?;
        Ok(answer.image_ref)
    }

    /// Forgets an image. Idempotent.
    pub async fn remove_image(&self, image: ImageSpec) -> Result<(), Error> {
        let request = RemoveImageRequest { image: Some(image) };
        let _: Empty = self.call(path!("RemoveImage"), REMOVE, request).await?;
        Ok(())
    }

    /// How much disk the images take.
    pub async fn image_fs_info(&self) -> Result<ImageFsInfoResponse, Error> {
        self.call(path!("ImageFsInfo"), LOOK, ImageFsInfoRequest::default())
            .await
    }
}
