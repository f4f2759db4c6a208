//! Kubernetes objects to and from the model.
