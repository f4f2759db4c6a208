//! JSON patch, merge patch and strategic merge patch of Kubernetes objects.
