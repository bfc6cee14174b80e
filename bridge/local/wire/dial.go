package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DialConfig describes an external NATS server or cluster.
type DialConfig struct {
	URL       string // one or more, joined by commas
	CredsFile string
	TLS       *tls.Config // nil: the system's
	Log       *slog.Logger
	Options   []nats.Option // more of them, such as OperatorLogin
}

// Dial connects and makes sure that JetStream is there. After that the connection comes back by itself
// however long it is gone. The first connection is not retried: the caller decides.
func Dial(ctx context.Context, cfg DialConfig) (*nats.Conn, error) {
	nc, err := Reach(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := HasJetStream(ctx, nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("nats.url %s: %w", printed(cfg.URL), err)
	}
	return nc, nil
}

// Reach is Dial without a look at JetStream.
func Reach(ctx context.Context, cfg DialConfig) (*nats.Conn, error) {
	// A server that has gone without a word is noticed within ten seconds; the library's own pings take minutes.
	options := append(ConnOptions("fleetbridge", cfg.Log), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsUnanswered))
	options = append(options, cfg.Options...)
	if cfg.CredsFile != "" {
		options = append(options, credentials(cfg.CredsFile))
	}
	if cfg.TLS != nil {
		options = append(options, nats.Secure(cfg.TLS))
	}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(max(time.Until(deadline), time.Millisecond)))
	}
	nc, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("nats.url %s: %w", printed(cfg.URL), err)
	}
	return nc, nil
}

const (
	pingInterval    = 3 * time.Second
	pingsUnanswered = 2
)

// HasJetStream is nil when the server has JetStream for this connection's account; else it says what to
// do.
func HasJetStream(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return errors.New("JetStream is not enabled on the server; start it with -js, or leave nats.url empty for the embedded server")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return errors.New("JetStream is not enabled for the account; enable it, or use other credentials")
	case err != nil:
		return fmt.Errorf("JetStream does not answer: %w", err)
	}
	return nil
}

// NotYet reports whether an error passes when the servers of a cluster have found each other: until there is a
// leader, JetStream does not answer, or says that it is unavailable.
func NotYet(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		return true
	}
	switch APICode(err) {
	case CodeUnavailable, CodeNoPeers, CodeBusy:
		return true
	}
	return false
}

// ConnOptions hold for every connection of the bridge. Nothing is buffered while the connection is
// gone: what was meant for the old one must not overtake what is sent again on the new one.
func ConnOptions(name string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				log.Warn("NATS connection lost", "name", name, "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("NATS connection is back", "name", name, "url", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS error", "name", name, "subject", subject, "error", err)
		}),
	}
}

// reconnectDelay is how long the n-th round over all servers waits.
func reconnectDelay(n int) time.Duration {
	return min(100*time.Millisecond<<min(n, 6), 5*time.Second)
}

// printed is a list of URLs without the logins that they may carry.
func printed(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		if at := strings.LastIndexByte(part, '@'); at >= 0 {
			scheme := part[:strings.Index(part, "://")+1]
			if parts[i] = part[at+1:]; scheme != "" {
				parts[i] = scheme + "//" + parts[i]
			}
		}
	}
	return strings.Join(parts, ",")
}

// OnClosed has f hear when a connection ends that is not made anew: somebody has closed it, or the server has ended it for
// something that nats.go takes for a mistake of its own.
func OnClosed(nc *nats.Conn, f func(error)) {
	nc.SetClosedHandler(func(nc *nats.Conn) {
		f(fmt.Errorf("the connection %q to NATS has ended for good: %w", nc.Opts.Name, cmp.Or(nc.LastError(), nats.ErrConnectionClosed)))
	})
}
