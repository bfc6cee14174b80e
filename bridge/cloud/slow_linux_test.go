package cloud

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"fleetbridge/fleetsim"
)

// TestSlowUploadByEveryScheme: what leaves is seen below TLS and WebSocket, too, though nothing but the other side's TCP
// says so until the PUBACK comes.
func TestSlowUploadByEveryScheme(t *testing.T) {
	b := startMochi(t)
	for scheme, at := range b.urls {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			link, err := fleetsim.NewLink(at.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = link.Close() })
			link.Shape(fleetsim.FromClient, fleetsim.Shape{Rate: 32 << 10}) // four seconds for the message
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			log, ready := &records{}, make(chan struct{}, 10)
			s := run(t, Config{
				Servers: []*url.URL{{Scheme: scheme, Host: link.Addr()}}, ClientID: "pump-" + scheme, AckTimeout: time.Second,
				TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: b.roots}, nil },
			}, Hooks{Ready: func(context.Context, bool) { ready <- struct{}{} }}, slog.New(log))

			await(t, ctx, ready)
			acked := make(chan error, 1)
			if err := s.Send(ctx, event(strings.Repeat("x", 128<<10)), func(err error) { acked <- err }); err != nil {
				t.Fatal(err)
			}
			if err := await(t, ctx, acked); err != nil {
				t.Fatal(err)
			}
			same(t, "connections lost", log.count("connection lost"), 0)
			if sent := link.Carried(fleetsim.FromClient); sent > 140<<10 {
				t.Errorf("%d bytes were sent", sent)
			}
		})
	}
}
