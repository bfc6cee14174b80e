package local

import (
	"testing"
)

// TestServersAlarmingWords: what the server says of its index after a kill is one line of ours, and the rest stays.
func TestServersAlarmingWords(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	j.forgive("checkMsgs", "Critical write error: I/O")
	var r reread
	l := serverLog{j.log(), func(string) {}, &r}
	for _, stream := range []string{"FLEETS_UP_TELEMETRY", "FLEETS_DOWN"} {
		l.Warnf("Filestore [%s] Stream state outdated, last block has additional entries, will rebuild", stream)
		l.Warnf("Filestore [%s] Recovering stream state from index errored: %v", stream, "prior state file")
	}
	l.Warnf("Filestore [X] checkMsgs: %v", "bad")
	l.Errorf("Filestore [X] Critical write error: %s", "write 7.blk: no space left on device")
	l.Errorf("Filestore [X] Critical write error: I/O")
	r.say(j.log())
	r.say(j.log())
	j.expect(t, "INFO", "not closed in good order", "streams=2")
	j.expect(t, "WARN", "checkMsgs")
	j.expect(t, "ERROR", "Critical write error: I/O")
	j.expect(t, "DEBUG", "no space left")
	if n := j.count("not closed in good order"); n != 1 {
		t.Errorf("said %d times", n)
	}
}
