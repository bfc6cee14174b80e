package cloud

import (
	"context"
	"crypto/tls"
	"math"
	"net/url"
	"time"
)

// Config is one Thing's connection. A zero value stands for the default named at the field.
type Config struct {
	// Servers are tried in turn by each connection attempt, beginning with the last good one. Schemes:
	// mqtt, mqtts, ws, wss. At least one is needed.
	Servers []*url.URL
	// TLS is asked for the configuration of each connection to mqtts or wss, so that renewed files count
	// from the next one on; nil: the system's roots. ServerName defaults to the URL's host.
	TLS func() (*tls.Config, error)

	// ClientID is sent exactly as it is: Fleets knows the Thing by it.
	ClientID, Username, Password string

	KeepAlive     time.Duration // seconds on the wire; default 30 s
	SessionExpiry time.Duration // how long the broker keeps the session; default 168 h
	// AckTimeout is how long the oldest message in flight may stay unacknowledged without any progress
	// before the connection is bounced. While bytes move, it stands still. Default 30 s.
	AckTimeout time.Duration
	// ConnectTimeout is how long nothing may move on the way to CONNACK, and again on the way to SUBACK. Default 60 s.
	ConnectTimeout time.Duration
	// AllowQoS0 sends to a broker with Maximum QoS 0, which acknowledges nothing: what is written counts as delivered.
	// Otherwise nothing is sent to it.
	AllowQoS0 bool
	// ReceiveMaximum is how many messages the broker may have sent and we not acknowledged. Default 1024.
	ReceiveMaximum uint16
	// Compact asks for 8 wider filters instead of the protocol page's 13.
	Compact bool
	// MaxPublishRate limits messages per second; 0: no limit.
	MaxPublishRate float64
	// Window is how many messages of a kind may be handed over and unacknowledged. Default 512.
	Window int
	// MaxPacket is the largest packet that the broker may send, in bytes. What is larger never arrives
	// and nobody hears of it, so it is well above what is accepted, and an oversized payload can become
	// a dead letter. Default 1 MiB and 64 KiB.
	MaxPacket int
	// MaxPayload is the largest payload that is kept whole, in bytes; of what is larger the first 16 KiB are, for
	// its dead letter. Default 128 KiB.
	MaxPayload int
	// Memory bounds what waits in memory, together with the other sessions that it is given to. Default: one of
	// DefaultBudget for this session alone.
	Memory  *Budget
	Backoff Backoff
	// Permit is called before each attempt to connect, after the connection before has ended. It returns when the attempt may
	// be made. After an error, which says why not, it is called again after a pause. nil: nobody else connects with the client id.
	Permit func(context.Context) error
	// Filters remembers what the session was subscribed to; nil: only this Session does.
	Filters FilterMemory
}

func (c Config) withDefaults() Config {
	or(&c.KeepAlive, 30*time.Second)
	or(&c.SessionExpiry, 168*time.Hour)
	or(&c.AckTimeout, 30*time.Second)
	or(&c.ConnectTimeout, 60*time.Second)
	or(&c.ReceiveMaximum, 1024)
	or(&c.Window, 512)
	or(&c.MaxPacket, 1<<20+64<<10)
	or(&c.MaxPayload, 128<<10)
	if c.Memory == nil {
		c.Memory = NewBudget(DefaultBudget)
	}
	or(&c.Backoff.Min, 500*time.Millisecond)
	or(&c.Backoff.Max, 30*time.Second)
	or(&c.Backoff.Takeover, 30*time.Second)
	return c
}

func or[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// seconds rounds up, so that a short duration does not become 0, and stops at most.
func seconds(d time.Duration, most float64) float64 {
	return min(math.Ceil(d.Seconds()), most)
}

// Hooks are called by the session. Each may be nil.
type Hooks struct {
	// State is called with every change, in order. It must not block long.
	State func(State)
	// Ready is called in a goroutine of its own on each connection, after every SUBACK was checked, one
	// call at a time. ctx ends with the connection; Run waits for the call to return.
	Ready func(ctx context.Context, sessionPresent bool)
}

// State is how the session stands.
type State struct {
	Connected      bool
	Subscribed     bool // to every filter
	SessionPresent bool // the broker had kept the session
	Since          time.Time
	// Held is why nothing is sent though the session is connected; empty: it is sent.
	Held string
	// Refused are the filters that the broker did not grant, with its code.
	Refused []string
	// Standing says which kinds of messages stand still, and why; see Session.Send.
	Standing []Stand
	// LastError is what last went wrong. It stays after a reconnection.
	LastError string
}
