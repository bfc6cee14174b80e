package bridge

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
)

// TestHops: at debug each message has a line for each hop, without its payload; at info there is none.
func TestHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for level, want := range map[slog.Level]string{
			slog.LevelInfo: "",
			slog.LevelDebug: `message taken direction=up passage=1 channel=event bytes=6 id=x
message decided direction=up passage=1 channel=event bytes=6 id=x outcome=forwarded
message sent direction=up passage=1 channel=event bytes=6 id=x
message settled direction=up passage=1 channel=event bytes=6 id=x outcome=delivered
message taken direction=up passage=2 channel=event bytes=6 id=x
message decided direction=up passage=2 channel=event bytes=6 id=x outcome=duplicate
message settled direction=up passage=2 channel=event bytes=6 id=x outcome=duplicate
message taken direction=up passage=3 channel=event bytes=6 id=x
message decided direction=up passage=3 channel=event bytes=6 id=x outcome=dead
message settled direction=up passage=3 channel=event bytes=6 id=x outcome=dead
`,
		} {
			var out bytes.Buffer
			l := newLine(func(_ context.Context, d Delivery) (Decision, error) {
				switch string(d.Payload) {
				case "twice.":
					return drop(Duplicate), nil
				case "broken":
					return Decision{}, Rejectf(CodeSchema, "no")
				}
				return forward(d.Message), nil
			})
			l.pump.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
					return slog.Attr{}
				}
				return a
			}}))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { _ = l.pump.Run(ctx, t.Context()); close(ended) }()
			for _, payload := range []string{"secret", "twice.", "broken"} {
				l.put(payload)
				synctest.Wait()
			}
			cancel()
			<-ended
			got := strings.NewReplacer(`msg="`, "", `" direction`, " direction").Replace(out.String())
			got = strings.Join(linesBut(strings.SplitAfter(got, "\n"), "dead letters"), "")
			if got != want {
				t.Errorf("at %s\n%s\nwant\n%s", level, got, want)
			}
			if strings.Contains(got, "secret") {
				t.Error("the log has the payload")
			}
		}
	})
}

func linesBut(lines []string, part string) (out []string) {
	for _, l := range lines {
		if !strings.Contains(l, part) {
			out = append(out, l)
		}
	}
	return out
}
