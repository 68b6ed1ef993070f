//! `mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC`, parsed.

use std::fmt;
use std::str::FromStr;

/// A topic, or a filter of topics, of a broker.
#[derive(Clone, PartialEq, Eq)]
pub struct MqttAddress {
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// 1883 where nothing is said.
    pub port: u16,
    /// All behind the first slash, as it stands: `#` and `+` mean what they do in MQTT.
    pub topic: String,
    /// Who is to be let in.
    pub user: Option<String>,
    /// And by which word.
    pub password: Option<String>,
}

/// The most bytes of a topic, MQTT's own bound.
const MAX_TOPIC_BYTES: usize = 65_535;

impl MqttAddress {
    /// Whether it is one topic, and not a filter of many.
    pub fn is_one_topic(&self) -> bool {
        !self.topic.contains(['#', '+'])
    }
}

impl FromStr for MqttAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<MqttAddress, String> {
        // The text may hold a password: what is wrong with it is said without it.
        let expected = "expected mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC";
        let rest = text.strip_prefix("mqtt://").ok_or(expected)?;
        let (authority, topic) = rest.split_once('/').ok_or_else(|| format!("no topic; {expected}"))?;
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES || topic.contains('\0') {
            return Err(format!("a topic has 1 to {MAX_TOPIC_BYTES} bytes, none of them 0; {expected}"));
        }
        let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(login, at)| (Some(login), at));
        let (user, password) =
            match login.map(|login| login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)))) {
                None => (None, None),
                Some((user, password)) => (Some(unescaped(user)?), password.map(unescaped).transpose()?),
            };
        let is_bare_ipv6 = place.ends_with(']');
        let (host, port) = match place.rsplit_once(':').filter(|_| !is_bare_ipv6) {
            Some((host, port)) => {
                (host, port.parse().map_err(|_| format!("the port is no number up to 65535; {expected}"))?)
            }
            None => (place, 1883),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(format!("no host; {expected}"));
        }
        Ok(MqttAddress { host: host.to_owned(), port, topic: topic.to_owned(), user, password })
    }
}

/// What `%40` and its like stand for, in a name or a password with `@`, `:` or `/` in it.
fn unescaped(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => {
                    return Err("% is followed by two hexadecimal digits in a user or password; % itself is %25".into());
                }
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "a user or password is not UTF-8 once its %XX are read".into())
}

/// Without the password, and what was escaped as it is.
impl fmt::Display for MqttAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MqttAddress { host, port, topic, .. } = self;
        if host.contains(':') {
            return write!(f, "mqtt://[{host}]:{port}/{topic}");
        }
        write!(f, "mqtt://{host}:{port}/{topic}")
    }
}

impl fmt::Debug for MqttAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_or_refused() {
        let parsed = |text: &str| text.parse::<MqttAddress>().unwrap();
        let full = parsed("mqtt://ann:p%40ss%3a@broker.local:1884/fleet/+/imu/#");
        assert_eq!((full.host.as_str(), full.port, full.topic.as_str()), ("broker.local", 1884, "fleet/+/imu/#"));
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("ann"), Some("p@ss:")));
        assert_eq!(full.to_string(), "mqtt://broker.local:1884/fleet/+/imu/#");
        assert!(!format!("{full:?}").contains("p@ss") && !full.is_one_topic() && parsed("mqtt://h/a").is_one_topic());
        let bare = parsed("mqtt://[::1]/a");
        assert_eq!((bare.host.as_str(), bare.port, bare.user), ("::1", 1883, None));
        assert_eq!(parsed("mqtt://[::1]:99//a").to_string(), "mqtt://[::1]:99//a");
        for wrong in ["h/a", "mqtt://h", "mqtt://h/", "mqtt:///a", "mqtt://h:x/a", "mqtt://u%4@h/a", "mqtt://u%ff@h/a"]
        {
            let told = wrong.parse::<MqttAddress>().unwrap_err();
            assert!(!told.is_empty(), "{wrong}");
        }
        let told = "mqtt://ann:pass/word@h/a".parse::<MqttAddress>().unwrap_err();
        assert!(!told.contains("pass"), "{told}");
    }
}
