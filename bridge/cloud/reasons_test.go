package cloud

import (
	"slices"
	"testing"
)

// What is said of a code depends on the packet, and doctor finds the mend in it again.
func TestReasons(t *testing.T) {
	for _, c := range []struct {
		err          error
		detail, mend string
	}{
		{&brokerError{packet: inConnack, code: 0x87}, "CONNACK 0x87 not authorised", "check things[].username/password"},
		{&brokerError{packet: inDisconnect, code: 0x87, text: "expired"}, `DISCONNECT 0x87 not authorised ("expired")`,
			"the login was taken, but a rule forbids what the client published or subscribed to last, or its token is over"},
		{&brokerError{packet: inDisconnect, code: 0x8E}, "DISCONNECT 0x8E session taken over", "give every Thing one bridge, and no other client its id"},
		{&brokerError{packet: inConnack, code: 0x88}, "CONNACK 0x88 server unavailable", ""},
		{&brokerError{packet: inDisconnect, code: 0xFE}, "DISCONNECT 0xFE refused", ""},
	} {
		if detail, mend := SplitMend(c.err.Error()); detail != c.detail || mend != c.mend {
			t.Errorf("%v: %q, %q", c.err, detail, mend)
		}
	}
	if got := (answer{code: 0x87}).refusal().words; got != "the broker refused it: 0x87 not authorised: allow the client to publish there" {
		t.Error(got)
	}
	if detail, mend := SplitMend("read: connection reset by peer"); detail != "read: connection reset by peer" || mend != "" {
		t.Errorf("%q %q", detail, mend)
	}
}

// Every mend is of a code that has a name, and each packet has its own where several have one.
func TestMendsHaveNames(t *testing.T) {
	for packet, all := range mends {
		for code := range all {
			if names[code] == "" {
				t.Errorf("%s 0x%02X has no name", packet, code)
			}
		}
	}
	said := []string{reason(inConnack, 0x87), reason(inPuback, 0x87), reason(inSuback, 0x87), reason(inDisconnect, 0x87)}
	slices.Sort(said)
	if got := slices.Compact(said); len(got) != 4 {
		t.Errorf("0x87: %q", got)
	}
}
