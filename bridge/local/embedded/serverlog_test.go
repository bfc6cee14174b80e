package embedded

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"
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
