package embedded

import "testing"

func TestDamagedRecordIsRecognized(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"JetStream stream '$G > KV_FLEETS_MARKS' critical write error: malformed or corrupt message in 1.blk: invalid checksum": "KV_FLEETS_MARKS",
		"JetStream stream '$G > FLEETS_DOWN' critical write error: unexpected EOF":                                              "FLEETS_DOWN",
		"JetStream stream '$G > FLEETS_DEAD' critical write error: corrupt state file":                                          "FLEETS_DEAD",
		"JetStream stream '$G > FLEETS_DOWN' critical write error: no space left on device":                                     "",
		"JetStream stream '$G > FLEETS_DOWN' critical write error: write 3.blk: input/output error":                             "",
		"Filestore [KV_FLEETS_MARKS] Critical write error: no space left on device":                                             "",
	} {
		if got, ok := damaged(text); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}
