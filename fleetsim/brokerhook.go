package fleetsim

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// denial is one thing that clients may not do.
type denial struct {
	filter    string
	text      string // of the payloads that are meant; empty: all
	subscribe bool
	code      byte
}

// notAuthorised is the reason code of what an administrator's rule forbids.
const notAuthorised = 0x87

// subscribe names a SUBSCRIBE packet under way.
type subscribe struct {
	client string
	packet uint16
}

// DenyPublish refuses every PUBLISH on a matching topic with the reason code, as 0x87 for "not
// authorized". QoS 0 messages vanish.
func (b *Broker) DenyPublish(filter string, code byte) { b.deny(denial{filter: filter, code: code}) }

// DenyPayload refuses every PUBLISH on a matching topic whose payload contains the text, as a broker does that validates
// messages.
func (b *Broker) DenyPayload(filter, text string, code byte) {
	b.deny(denial{filter: filter, text: text, code: code})
}

// DenySubscribe refuses exactly this filter with the SUBACK code, as 0x87 or 0x97. Subscriptions
// that are there already stay.
func (b *Broker) DenySubscribe(filter string, code byte) {
	b.deny(denial{filter: filter, subscribe: true, code: code})
}

// AllowAll takes back every denial.
func (b *Broker) AllowAll() {
	b.Lock()
	defer b.Unlock()
	b.denials = nil
}

func (b *Broker) deny(d denial) {
	b.Lock()
	defer b.Unlock()
	b.denials = append(b.denials, d)
}

func (b *Broker) denied(s string, payload []byte, subscribe bool) byte {
	b.Lock()
	defer b.Unlock()
	for _, d := range b.denials {
		if d.subscribe == subscribe && bytes.Contains(payload, []byte(d.text)) && (d.filter == s || !subscribe && topicMatches(d.filter, s)) {
			return d.code
		}
	}
	return 0
}

// topicMatches reports whether an MQTT filter matches a topic. A leading wildcard does not match "$".
func topicMatches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t) || level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// firstOrder begins the numbers that stand in for the creation time of stored messages: the library
// sorts a resumed session's messages by the low 16 bits of their second, so that messages of one
// second come in any order. A counter in its place keeps their order. It begins ahead of the clock,
// because the library also drops what was created a day ago.
func firstOrder(now time.Time) int64 { return (now.Unix()>>16 + 1) << 16 }

// brokerHook is where the library asks and tells.
type brokerHook struct {
	mqtt.HookBase
	b    *Broker
	late late
}

func (h *brokerHook) ID() string { return "fleetsim" }

func (h *brokerHook) Provides(event byte) bool {
	return slices.Contains([]byte{
		mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnPublish, mqtt.OnQosPublish,
	}, event)
}

func (h *brokerHook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	if h.b.banned(cl.ID) {
		return false
	}
	h.b.Lock()
	defer h.b.Unlock()
	return len(h.b.logins) == 0 || slices.ContainsFunc(h.b.logins, func(l Login) bool {
		return (l.ClientID == "" || l.ClientID == cl.ID) && l.Username == string(pk.Connect.Username) && l.Password == string(pk.Connect.Password)
	})
}

// OnACLCheck allows all: OnPublish and OnSubscribe decide, which can choose the code.
func (h *brokerHook) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

// OnSessionEstablish runs before the client takes an older connection's session over. The library
// then writes to the old connection under a lock; if that one is half open, the write would hold up
// the whole broker, so it gets a deadline.
func (h *brokerHook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	if old, ok := h.b.server.Clients.Get(cl.ID); ok && old.Net.Conn != nil && !old.Closed() {
		_ = old.Net.Conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	}
	h.b.connected(cl.ID) // before the client has its CONNACK, so before it can connect again
}

// OnSessionEstablished runs before the first packet behind the CONNECT is read.
func (h *brokerHook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if c, ok := cl.Net.Conn.(*watchedConn); ok {
		h.late.establish(cl, &c.window)
	}
	h.b.wake()
}

// OnPacketRead does the flow control that window takes out of the library's hands.
func (h *brokerHook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*watchedConn)
	if !ok {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		c.window.connect(h.windowSize(pk), func(id uint16) { cl.State.Inflight.Delete(id) })
		pk.Properties.ReceiveMaximum = 0
	case packets.Puback, packets.Pubcomp:
		c.window.acknowledge(pk.PacketID)
	case packets.Pubrec:
		if pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
			c.window.acknowledge(pk.PacketID)
		}
	}
	return pk, nil
}

// windowSize is how many messages may go to a client that connects unacknowledged.
func (h *brokerHook) windowSize(pk packets.Packet) int {
	like := h.b.like
	if old, ok := h.b.server.Clients.Get(pk.Connect.ClientIdentifier); ok && like.KeepWindow && !pk.Connect.Clean {
		if c, ok := old.Net.Conn.(*watchedConn); ok {
			return c.window.width()
		}
	}
	size := int(pk.Properties.ReceiveMaximum)
	if size == 0 {
		size = 65_535 // the protocol's default
	}
	if like.MaxInflight > 0 {
		size = min(size, like.MaxInflight)
	}
	return size
}

// OnSubscribe decides which filters are granted. Those that are not lose their name, so that the library refuses
// them, and get their code in OnPacketEncode.
func (h *brokerHook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	codes := make([]byte, len(pk.Filters))
	held := cl.State.Subscriptions.GetAll()
	pk.Filters = slices.Clone(pk.Filters)
	for i, f := range pk.Filters {
		codes[i] = h.b.denied(f.Filter, nil, true)
		_, known := held[f.Filter]
		if most := h.b.like.MaxSubscriptions; codes[i] == 0 && !known && most > 0 && len(held) >= most {
			codes[i] = packets.ErrQuotaExceeded.Code
		}
		if codes[i] == 0 {
			held[f.Filter] = f
			continue
		}
		pk.Filters[i].Filter = ""
	}
	if h.b.like.DenyDisconnects && slices.Contains(codes, notAuthorised) {
		for i := range pk.Filters {
			pk.Filters[i].Filter = ""
		}
		_ = h.b.server.DisconnectClient(cl, packets.Code{Code: notAuthorised})
	}
	if slices.Max(append(codes, 0)) > 0 {
		h.b.Lock()
		defer h.b.Unlock()
		h.b.codes[subscribe{cl.ID, pk.PacketID}] = codes
	}
	return pk
}

// OnQosPublish sees a message when it is in the client's session and not sent yet, or is about to be resent.
func (h *brokerHook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	if pk.FixedHeader.Type != packets.Publish {
		return
	}
	switch c, ok := cl.Net.Conn.(*watchedConn); {
	case pk.FixedHeader.Dup:
		if ok {
			c.window.copy(pk.Created)
		}
	case cl.IsTakenOver():
		h.late.put(cl.ID, pk)
	case cl.Closed() || ok && c.closed.Load(): // the library notices it later
		h.b.overflows(cl, pk.PacketID)
	case h.b.bursts(cl.ID):
		h.b.endSession(cl)
		cl.Stop(packets.ErrQuotaExceeded)
	}
}

func (h *brokerHook) OnSubscribed(*mqtt.Client, packets.Packet, []byte) { h.b.wake() }

// OnPacketEncode puts right what the library does not say: the packet size limit, SUBACK codes other
// than 0x87, PUBACK codes without a reason string (unless the client wants none), and the user
// properties of a PUBLISH, which belong to the message and not to "problem information".
func (h *brokerHook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	switch pk.FixedHeader.Type {
	case packets.Connack:
		pk.Properties.MaximumPacketSize = h.b.options.MaximumPacketSize
		if pk.ReasonCode == packets.ErrBadUsernameOrPassword.Code {
			pk.ReasonCode = cmp.Or(h.b.like.LoginRefusal, pk.ReasonCode)
			if h.b.banned(cl.ID) {
				pk.ReasonCode = packets.ErrBanned.Code
			}
			pk.Properties.ReasonString = ""
		}
	case packets.Publish:
		pk.Mods.DisallowProblemInfo = false
	case packets.Puback:
		if pk.ReasonCode == packets.CodeNoMatchingSubscribers.Code {
			pk.Properties.ReasonString = packets.CodeNoMatchingSubscribers.Reason
		}
	case packets.Suback:
		h.b.Lock()
		defer h.b.Unlock()
		for i, code := range h.b.codes[subscribe{cl.ID, pk.PacketID}] {
			if code > 0 && i < len(pk.ReasonCodes) {
				pk.ReasonCodes[i] = code
			}
		}
		delete(h.b.codes, subscribe{cl.ID, pk.PacketID})
	}
	return pk
}

// OnPublish records and decides. A returned code is the PUBACK's, and nobody gets the message.
func (h *brokerHook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	pk.Created = h.b.order.Add(1)
	if cl.Net.Inline {
		return pk, nil
	}
	p := Publish{
		ClientID: cl.ID, Topic: pk.TopicName, Payload: pk.Payload, QoS: pk.FixedHeader.Qos,
		Retain: pk.FixedHeader.Retain, Dup: pk.FixedHeader.Dup, At: time.Now(), Refused: h.b.denied(pk.TopicName, pk.Payload, false),
	}
	for _, u := range pk.Properties.User {
		p.User = append(p.User, UserProperty{u.Key, u.Val})
	}
	h.b.received.add(p)
	switch {
	case p.Refused == notAuthorised && h.b.like.DenyDisconnects:
		_ = h.b.server.DisconnectClient(cl, packets.Code{Code: notAuthorised})
		return pk, packets.ErrRejectPacket
	case p.Refused > 0 && p.QoS == 1:
		return pk, packets.Code{Code: p.Refused, Reason: "denied"}
	case p.Refused > 0:
		return pk, packets.ErrRejectPacket
	}
	if h.b.options.OnPublish != nil {
		h.b.options.OnPublish(p)
	}
	if p.QoS == 1 && !p.Retain && !h.b.hasSubscriber(p.Topic) {
		return pk, packets.CodeNoMatchingSubscribers
	}
	return pk, nil
}
