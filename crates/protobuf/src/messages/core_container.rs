//! `v1`: containers, what they get and how they are watched.

use super::core::LocalObjectReference;
use super::core_volume::{ObjectFieldSelector, ResourceFieldSelector};
use crate::table::messages;

messages! {
    AppArmorProfile { 1 type: string always, 2 localhostProfile: string optional, }
    Capabilities { 1 add: [string], 2 drop: [string], }
    ConfigMapEnvSource { 1 _: LocalObjectReference, 2 optional: bool optional, }
    ConfigMapKeySelector { 1 _: LocalObjectReference, 2 key: string always, 3 optional: bool optional, }
    Container {
        1 name: string always, 2 image: string, 3 command: [string], 4 args: [string], 5 workingDir: string,
        6 ports: [ContainerPort], 7 env: [EnvVar], 8 resources: ResourceRequirements,
        9 volumeMounts: [VolumeMount], 10 livenessProbe: Probe optional, 11 readinessProbe: Probe optional,
        12 lifecycle: Lifecycle optional, 13 terminationMessagePath: string, 14 imagePullPolicy: string,
        15 securityContext: SecurityContext optional, 16 stdin: bool, 17 stdinOnce: bool, 18 tty: bool,
        19 envFrom: [EnvFromSource], 20 terminationMessagePolicy: string, 21 volumeDevices: [VolumeDevice],
        22 startupProbe: Probe optional, 23 resizePolicy: [ContainerResizePolicy],
        24 restartPolicy: string optional, 25 restartPolicyRules: [ContainerRestartRule],
    }
    ContainerPort {
        1 name: string, 2 hostPort: int32, 3 containerPort: int32 always, 4 protocol: string,
        5 hostIP: string,
    }
    ContainerResizePolicy { 1 resourceName: string always, 2 restartPolicy: string always, }
    ContainerRestartRule { 1 action: string, 2 exitCodes: ContainerRestartRuleOnExitCodes optional, }
    ContainerRestartRuleOnExitCodes { 1 operator: string, 2 values: [int32], }
    EnvFromSource {
        1 prefix: string, 2 configMapRef: ConfigMapEnvSource optional,
        3 secretRef: SecretEnvSource optional,
    }
    EnvVar { 1 name: string always, 2 value: string, 3 valueFrom: EnvVarSource optional, }
    EnvVarSource {
        1 fieldRef: ObjectFieldSelector optional, 2 resourceFieldRef: ResourceFieldSelector optional,
        3 configMapKeyRef: ConfigMapKeySelector optional, 4 secretKeyRef: SecretKeySelector optional,
        5 fileKeyRef: FileKeySelector optional,
    }
    EphemeralContainer { 1 _: EphemeralContainerCommon, 2 targetContainerName: string, }
    EphemeralContainerCommon {
        1 name: string always, 2 image: string, 3 command: [string], 4 args: [string], 5 workingDir: string,
        6 ports: [ContainerPort], 7 env: [EnvVar], 8 resources: ResourceRequirements,
        9 volumeMounts: [VolumeMount], 10 livenessProbe: Probe optional, 11 readinessProbe: Probe optional,
        12 lifecycle: Lifecycle optional, 13 terminationMessagePath: string, 14 imagePullPolicy: string,
        15 securityContext: SecurityContext optional, 16 stdin: bool, 17 stdinOnce: bool, 18 tty: bool,
        19 envFrom: [EnvFromSource], 20 terminationMessagePolicy: string, 21 volumeDevices: [VolumeDevice],
        22 startupProbe: Probe optional, 23 resizePolicy: [ContainerResizePolicy],
        24 restartPolicy: string optional, 25 restartPolicyRules: [ContainerRestartRule],
    }
    ExecAction { 1 command: [string], }
    FileKeySelector {
        1 volumeName: string always, 2 path: string always, 3 key: string always, 4 optional: bool optional,
    }
    GRPCAction { 1 port: int32 always, 2 service: string optional, }
    HTTPGetAction {
        1 path: string, 2 port: IntOrString always, 3 host: string, 4 scheme: string,
        5 httpHeaders: [HTTPHeader],
    }
    HTTPHeader { 1 name: string always, 2 value: string always, }
    Lifecycle {
        1 postStart: LifecycleHandler optional, 2 preStop: LifecycleHandler optional,
        3 stopSignal: string optional,
    }
    LifecycleHandler {
        1 exec: ExecAction optional, 2 httpGet: HTTPGetAction optional,
        3 tcpSocket: TCPSocketAction optional, 4 sleep: SleepAction optional,
    }
    PodSecurityContext {
        1 seLinuxOptions: SELinuxOptions optional, 2 runAsUser: int64 optional,
        3 runAsNonRoot: bool optional, 4 supplementalGroups: [int64], 5 fsGroup: int64 optional,
        6 runAsGroup: int64 optional, 7 sysctls: [Sysctl],
        8 windowsOptions: WindowsSecurityContextOptions optional, 9 fsGroupChangePolicy: string optional,
        10 seccompProfile: SeccompProfile optional, 11 appArmorProfile: AppArmorProfile optional,
        12 supplementalGroupsPolicy: string optional, 13 seLinuxChangePolicy: string optional,
    }
    Probe {
        1 _: ProbeHandler, 2 initialDelaySeconds: int32, 3 timeoutSeconds: int32, 4 periodSeconds: int32,
        5 successThreshold: int32, 6 failureThreshold: int32,
        7 terminationGracePeriodSeconds: int64 optional,
    }
    ProbeHandler {
        1 exec: ExecAction optional, 2 httpGet: HTTPGetAction optional,
        3 tcpSocket: TCPSocketAction optional, 4 grpc: GRPCAction optional,
    }
    ResourceClaim { 1 name: string always, 2 request: string, }
    ResourceRequirements { 1 limits: {Quantity}, 2 requests: {Quantity}, 3 claims: [ResourceClaim], }
    SELinuxOptions { 1 user: string, 2 role: string, 3 type: string, 4 level: string, }
    SeccompProfile { 1 type: string always, 2 localhostProfile: string optional, }
    SecretEnvSource { 1 _: LocalObjectReference, 2 optional: bool optional, }
    SecretKeySelector { 1 _: LocalObjectReference, 2 key: string always, 3 optional: bool optional, }
    SecurityContext {
        1 capabilities: Capabilities optional, 2 privileged: bool optional,
        3 seLinuxOptions: SELinuxOptions optional, 4 runAsUser: int64 optional,
        5 runAsNonRoot: bool optional, 6 readOnlyRootFilesystem: bool optional,
        7 allowPrivilegeEscalation: bool optional, 8 runAsGroup: int64 optional,
        9 procMount: string optional, 10 windowsOptions: WindowsSecurityContextOptions optional,
        11 seccompProfile: SeccompProfile optional, 12 appArmorProfile: AppArmorProfile optional,
    }
    SleepAction { 1 seconds: int64 always, }
    Sysctl { 1 name: string always, 2 value: string always, }
    TCPSocketAction { 1 port: IntOrString always, 2 host: string, }
    VolumeDevice { 1 name: string always, 2 devicePath: string always, }
    VolumeMount {
        1 name: string always, 2 readOnly: bool, 3 mountPath: string always, 4 subPath: string,
        5 mountPropagation: string optional, 6 subPathExpr: string, 7 recursiveReadOnly: string optional,
    }
    WindowsSecurityContextOptions {
        1 gmsaCredentialSpecName: string optional, 2 gmsaCredentialSpec: string optional,
        3 runAsUserName: string optional, 4 hostProcess: bool optional,
    }
}
