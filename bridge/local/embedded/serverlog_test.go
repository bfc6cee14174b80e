package embedded

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"fleetbridge/bridge/local/wire"
)

// TestServersAlarmingWords: what the server says of its index after a kill is one line of ours, and the rest stays.
func TestServersAlarmingWords(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var r reread
	l := serverLog{log, func(string) {}, &r}
	for _, stream := range []string{"FLEETS_UP_TELEMETRY", "FLEETS_DOWN"} {
		l.Warnf("Filestore [%s] Stream state outdated, last block has additional entries, will rebuild", stream)
		l.Warnf("Filestore [%s] Recovering stream state from index errored: %v", stream, "prior state file")
	}
	l.Warnf("Filestore [X] checkMsgs: %v", "bad")
	l.Errorf("Filestore [X] Critical write error: %s", "write 7.blk: no space left on device")
	l.Errorf("Filestore [X] Critical write error: I/O")
	r.say(log)
	r.say(log)
	for _, want := range []string{`level=INFO .*not closed in good order.* streams=2`, `level=WARN .*checkMsgs`, `level=ERROR .*Critical write error: I/O`, `level=DEBUG .*no space left`} {
		if n := len(regexp.MustCompile(want).FindAllString(said.String(), -1)); n != 1 {
			t.Errorf("%s: said %d times in %s", want, n, &said)
		}
	}
}

// TestRefusedUser: a name that is refused is not in the log, as it may be a password; what a client says is bounded.
func TestRefusedUser(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	l := serverLog{slog.New(slog.NewTextHandler(&said, nil)), func(string) {}, &reread{}}
	l.Errorf(`127.0.0.1:1 - cid:5 - authentication error - User "hunter2 - cid:"`)
	l.Errorf("127.0.0.1:1 - cid:6 - %s", strings.Repeat("x", 1<<20))
	l.Warnf("127.0.0.1:1 - cid:7 - %s", strings.Repeat("x", 1<<20))
	if got := said.String(); strings.Contains(got, "hunter2") || !strings.Contains(got, "cid:5 - authentication error") || len(got) > 4*wire.MaxLine {
		t.Errorf("%d bytes: %.500s", len(got), got)
	}
}
