//! `certificates.k8s.io/v1`.

use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    CertificateSigningRequest {
        1 metadata: ObjectMeta, 2 spec: CertificateSigningRequestSpec,
        3 status: CertificateSigningRequestStatus,
    }
    CertificateSigningRequestCondition {
        1 type: string always, 2 reason: string, 3 message: string, 4 lastUpdateTime: Time,
        5 lastTransitionTime: Time, 6 status: string always,
    }
    CertificateSigningRequestSpec {
        1 request: bytes, 2 username: string, 3 uid: string, 4 groups: [string], 5 usages: [string],
        6 extra: {Strings}, 7 signerName: string always, 8 expirationSeconds: int32 optional,
    }
    CertificateSigningRequestStatus {
        1 conditions: [CertificateSigningRequestCondition], 2 certificate: bytes,
    }
}
