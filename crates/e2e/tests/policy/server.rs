//! Pods that policies are about.

/// A pod that answers HTTP and echoes.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    name: &'static str,
    node: &'static str,
    labels: &'static str,
    http: u16,
    echo: u16,
    /// More of its spec, as YAML's flow style has it, beginning with a comma.
    more: String,
}

impl Server {
    pub(crate) fn new(name: &'static str, node: &'static str, labels: &'static str) -> Server {
        Server {
            name,
            node,
            labels,
            http: 8080,
            echo: 9000,
            more: String::new(),
        }
    }

    pub(crate) fn http(self, http: u16) -> Server {
        Server { http, ..self }
    }

    pub(crate) fn echo(self, echo: u16) -> Server {
        Server { echo, ..self }
    }

    pub(crate) fn host_network(self) -> Server {
        let more = ", hostNetwork: true".to_owned();
        Server { more, ..self }
    }

    pub(crate) fn manifest(&self, namespace: &str) -> String {
        let Server {
            name,
            node,
            labels,
            http,
            echo,
            more,
        } = self;
        // The probe is the node's own, and passes whatever policies say.
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
             spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, containers: [{{name: a, \
             image: 'localhost/ripstop/toolbox:1', \
             command: [toolbox, serve, --quiet, --http, '{http}', --echo, '{echo}'], \
             ports: [{{name: web, containerPort: {http}}}, {{name: echo, containerPort: {echo}}}, \
             {{name: echo-udp, containerPort: {echo}, protocol: UDP}}], \
             readinessProbe: {{httpGet: {{path: /readyz, port: {http}}}, periodSeconds: 1}}}}]{more}}}\n"
        )
    }
}
