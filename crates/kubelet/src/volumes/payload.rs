//! The files of volumes that are made from objects: configMap, secret,
//! downwardAPI, and projected, which is any of them together.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume};

use super::atomic::{File, Files};
use super::token::Tokens;
use crate::downward::{self, Surroundings};
use crate::objects::{Data, Lookup, Source};

/// What files have unless the volume says otherwise.
const DEFAULT_MODE: i32 = 0o644;

/// What is needed to fill such a volume.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) objects: &'a dyn Lookup,
    pub(crate) around: &'a Surroundings,
    pub(crate) tokens: &'a Tokens,
}

/// The volume's files; `None` if it isn't made from objects.
pub(crate) fn files(volume: &Volume, sources: &Sources<'_>) -> Option<Result<Files, String>> {
    let mut gathered = Gathered {
        sources,
        files: Files::new(),
    };
    let result = if let Some(it) = &volume.config_map {
        let mode = it.default_mode;
        gathered.object(
            Source::ConfigMap,
            &it.name,
            it.items.as_deref(),
            it.optional,
            mode,
        )
    } else if let Some(it) = &volume.secret {
        let name = it.secret_name.as_deref().unwrap_or_default();
        gathered.object(
            Source::Secret,
            name,
            it.items.as_deref(),
            it.optional,
            it.default_mode,
        )
    } else if let Some(it) = &volume.downward_api {
        gathered.downward(it.items.as_deref(), it.default_mode)
    } else if let Some(it) = &volume.projected {
        gathered.projected(&volume.name, it)
    } else {
        return None;
    };
    Some(result.map(|()| gathered.files))
}

struct Gathered<'a> {
    sources: &'a Sources<'a>,
    files: Files,
}

impl Gathered<'_> {
    fn add(&mut self, path: &str, data: Vec<u8>, mode: Option<i32>, default: Option<i32>) {
        let mode = mode.or(default).unwrap_or(DEFAULT_MODE);
        let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
        self.files.insert(path.to_owned(), File { data, mode });
    }

    fn object(
        &mut self,
        source: Source,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        default: Option<i32>,
    ) -> Result<(), String> {
        let optional = optional.unwrap_or(false);
        let Some(data) = self.sources.objects.data(source, name)? else {
            return if optional {
                Ok(())
            } else {
                Err(source.missing(name))
            };
        };
        match items.filter(|items| !items.is_empty()) {
            None => {
                for (key, value) in data {
                    self.add(&key, value, None, default);
                }
                Ok(())
            }
            Some(items) => self.items(source, name, items, &data, optional, default),
        }
    }

    fn items(
        &mut self,
        source: Source,
        name: &str,
        items: &[KeyToPath],
        data: &Data,
        optional: bool,
        default: Option<i32>,
    ) -> Result<(), String> {
        for item in items {
            match data.get(&item.key) {
                Some(value) => self.add(&item.path, value.clone(), item.mode, default),
                None if optional => {}
                None => {
                    let noun = source.noun().to_ascii_lowercase();
                    return Err(format!(
                        "{noun} references non-existent {noun} key: {} (in {name})",
                        item.key
                    ));
                }
            }
        }
        Ok(())
    }

    fn downward(
        &mut self,
        items: Option<&[DownwardAPIVolumeFile]>,
        default: Option<i32>,
    ) -> Result<(), String> {
        for item in items.unwrap_or_default() {
            let Sources { pod, around, .. } = *self.sources;
            let text = if let Some(selector) = &item.field_ref {
                downward::field(selector, pod, around)?
            } else if let Some(selector) = &item.resource_field_ref {
                downward::resource(selector, pod, "", around)?
            } else {
                return Err(format!(
                    "downwardAPI file {} names neither a field nor a resource",
                    item.path
                ));
            };
            self.add(&item.path, text.into_bytes(), item.mode, default);
        }
        Ok(())
    }

    fn projected(&mut self, volume: &str, projected: &ProjectedVolumeSource) -> Result<(), String> {
        let default = projected.default_mode;
        for source in projected.sources.iter().flatten() {
            if let Some(it) = &source.config_map {
                self.object(
                    Source::ConfigMap,
                    &it.name,
                    it.items.as_deref(),
                    it.optional,
                    default,
                )?;
            } else if let Some(it) = &source.secret {
                self.object(
                    Source::Secret,
                    &it.name,
                    it.items.as_deref(),
                    it.optional,
                    default,
                )?;
            } else if let Some(it) = &source.downward_api {
                self.downward(it.items.as_deref(), default)?;
            } else if let Some(it) = &source.service_account_token {
                let token = self.sources.tokens.get(volume, &it.path)?;
                // A token is for the pod's user alone; the pod's group, if it
                // has one, is let in when owners are set.
                self.add(&it.path, token.into_bytes(), Some(self.token_mode(default)), None);
            } else {
                return Err("projected volumes of this kind are not supported".to_owned());
            }
        }
        Ok(())
    }

    /// A process that isn't root couldn't read a token of mode 0600 that root
    /// owns, so that mode is for pods whose processes all run as root or
    /// share the volume's group.
    fn token_mode(&self, default: Option<i32>) -> i32 {
        let context = crate::pod::spec(self.sources.pod).security_context.as_ref();
        if context.is_some_and(|c| c.fs_group.is_some()) {
            0o600
        } else {
            default.unwrap_or(DEFAULT_MODE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::Fixed;
    use crate::pod::tests::pod;
    use serde_json::{Value, json};

    fn listing(volume: Value) -> Result<String, String> {
        let it = pod(json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}));
        let objects = Fixed::default()
            .with(Source::ConfigMap, "settings", &[("color", "blue"), ("size", "9")])
            .with(Source::Secret, "keys", &[("token", "s3cret")]);
        let mut volume = volume;
        volume["name"] = json!("v");
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let sources = Sources {
            pod: &it,
            objects: &objects,
            around: &Surroundings::default(),
            tokens: &Tokens::default(),
        };
        let files = files(&volume, &sources).expect("a volume of objects")?;
        let line = |(path, file): (&String, &File)| {
            format!("{:o} {path}={}", file.mode, String::from_utf8_lossy(&file.data))
        };
        Ok(files.iter().map(line).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_kind_of_source() {
        assert_eq!(
            listing(json!({"configMap": {"name": "settings"}})).unwrap(),
            "644 color=blue 644 size=9"
        );
        assert_eq!(
            listing(json!({"configMap": {"name": "settings", "defaultMode": 0o400,
                "items": [{"key": "size", "path": "etc/size"}, {"key": "color", "path": "c", "mode": 0o444}]}})).unwrap(),
            "444 c=blue 400 etc/size=9"
        );
        assert_eq!(
            listing(json!({"secret": {"secretName": "gone", "optional": true}})).unwrap(),
            ""
        );
        assert_eq!(
            listing(json!({"projected": {"sources": [
                {"secret": {"name": "keys"}},
                {"configMap": {"name": "settings", "items": [{"key": "color", "path": "c"}]}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}})).unwrap(),
            "644 c=blue 644 labels=app=\"web\" 644 token=s3cret"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            listing(json!({"secret": {"secretName": "gone"}})).unwrap_err(),
            "secret \"gone\" not found"
        );
        assert_eq!(
            listing(json!({"configMap": {"name": "settings", "items": [{"key": "x", "path": "x"}]}}))
                .unwrap_err(),
            "configmap references non-existent configmap key: x (in settings)"
        );
    }
}
