package cloud

import (
	"fmt"
	"strings"
)

// The packets in which a broker gives a reason.
const (
	inConnack    = "CONNACK"
	inPuback     = "PUBACK"
	inSuback     = "SUBACK"
	inDisconnect = "DISCONNECT"
)

// names are MQTT 5's for the reason codes that a broker may send.
var names = map[byte]string{
	0x80: "unspecified error",
	0x81: "malformed packet",
	0x82: "protocol error",
	0x83: "implementation specific error",
	0x84: "unsupported protocol version",
	0x85: "client id not valid",
	0x86: "bad user name or password",
	0x87: "not authorised",
	0x88: "server unavailable",
	0x89: "server busy",
	0x8A: "banned",
	0x8B: "server shutting down",
	0x8C: "bad authentication method",
	0x8D: "keep-alive timeout",
	0x8E: "session taken over",
	0x8F: "topic filter invalid",
	0x90: "topic name invalid",
	0x91: "packet identifier in use",
	0x93: "receive maximum exceeded",
	0x94: "topic alias invalid",
	0x95: "packet too large",
	0x96: "message rate too high",
	0x97: "quota exceeded",
	0x98: "administrative action",
	0x99: "payload format invalid",
	0x9A: "retain not supported",
	0x9B: "QoS not supported",
	0x9C: "use another server",
	0x9D: "server moved",
	0x9E: "shared subscriptions not supported",
	0x9F: "connection rate exceeded",
	0xA0: "maximum connect time",
	0xA1: "subscription identifiers not supported",
	0xA2: "wildcard subscriptions not supported",
}

// mends say what to do, by packet and code: a code means something else in each packet. Log, status, /readyz and
// doctor all read them.
var mends = map[string]map[byte]string{
	inConnack: {
		0x84: "the broker must speak MQTT 5",
		0x85: "check things[].client_id",
		0x86: "check things[].username and things[].password",
		0x87: "check things[].username/password",
		0x8A: "the broker's administrator has blocked the client; EMQX also does so for a while after many connections in a short time",
		0x8C: "allow a login by user name and password, or by certificate, at the broker",
		0x97: "raise the broker's limit of connections",
		0x9F: "raise the broker's limit of connections a second",
	},
	inPuback: {
		0x87: "allow the client to publish there",
		0x90: "the broker must take topics that begin with $emqx/",
		0x95: "raise the broker's limit of a packet, or lower limits.payload",
		0x96: "set mqtt.max_publish_rate below the broker's limit",
		0x97: "if it is a rate, set mqtt.max_publish_rate below it",
	},
	inSuback: {
		0x87: "allow the client to subscribe to it",
		0x8F: "allow topics of seven levels, and filters that begin with $emqx/, at the broker",
		0x9E: "look at the broker's log: no shared subscription was asked for",
		0xA2: "allow wildcards at the broker",
	},
	inDisconnect: {
		0x81: "look at the broker's log for what it did not understand",
		0x82: "the broker does not take what was sent last; it must take topics that begin with $emqx/",
		0x87: "the login was taken, but a rule forbids what the client published or subscribed to last, or its token is over",
		0x8A: "the broker's administrator has blocked the client",
		0x8D: "set mqtt.keep_alive to less",
		0x8E: "give every Thing one bridge, and no other client its id",
		0x93: "lower the broker's Receive Maximum, and report this",
		0x95: "raise the broker's limit of a packet, or lower limits.payload",
		0x96: "set mqtt.max_publish_rate below the broker's limit",
		0x97: "if it is one of messages a second, mqtt.max_publish_rate keeps below it",
		0x98: "somebody has ended the session at the broker",
	},
}

// reason is a code in words, with the mend where there is one.
func reason(packet string, code byte) string {
	name := names[code]
	if name == "" {
		name = "refused"
	}
	if mend := mends[packet][code]; mend != "" {
		return name + ": " + mend
	}
	return name
}

// SplitMend takes the mend out of what a Session says of a broker's reason; empty: it has none.
func SplitMend(text string) (detail, mend string) {
	for _, ofPacket := range mends {
		for _, known := range ofPacket {
			if i := strings.LastIndex(text, ": "+known); i > 0 && len(known) > len(mend) {
				detail, mend = text[:i]+text[i+2+len(known):], known
			}
		}
	}
	if mend == "" {
		return text, ""
	}
	return detail, mend
}

// quoted is what the broker said, of bounded length and in one line.
func quoted(words string) string { return fmt.Sprintf(" (%q)", shorten(words)) }
