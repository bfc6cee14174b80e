package doctor

import (
	"fmt"
	"strings"
)

// Status is how a check ended.
type Status string

const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, but not for long or not as well as it should
	Fail Status = "fail"
	Skip Status = "skip" // not looked at; the detail says why
)

// Checks, in the order in which they are made.
const (
	checkConfig    = "config"
	checkSecrets   = "secrets"
	checkBridge    = "bridge"
	checkDNS       = "dns"
	checkTCP       = "tcp"
	checkTLS       = "tls"
	checkClock     = "clock"
	checkConnect   = "connect"
	checkSubscribe = "subscribe"
	checkPublish   = "publish"
	checkSession   = "session"
	checkQueues    = "queues"
	checkAPI       = "api"
	checkNATS      = "nats"
	checkJetStream = "jetstream"
	checkDisk      = "disk"
	checkFsync     = "fsync"
)

// Finding is the outcome of one check of one thing.
type Finding struct {
	Status Status `json:"status"`
	Check  string `json:"check"`
	// Subject is what was looked at: a host, a Thing, a stream, a file.
	Subject string `json:"subject,omitempty"`
	Detail  string `json:"detail"`
	// Mend says what to do; empty when nothing is wrong.
	Mend string `json:"mend,omitempty"`
}

// String is the finding on one line.
func (f Finding) String() string {
	text := f.Detail
	if f.Subject != "" {
		text = f.Subject + ": " + text
	}
	if f.Mend != "" {
		text += " → " + f.Mend
	}
	text = strings.Join(strings.Fields(text), " ")
	return fmt.Sprintf("%-4s  %-9s  %s", f.Status, f.Check, text)
}

// mended splits an error that names its mend, as those of the bridge do: "what is wrong; what to do".
func mended(err error) (detail, mend string) {
	text := err.Error()
	if i := strings.LastIndex(text, "; "); i > 0 {
		return text[:i], text[i+2:]
	}
	return text, ""
}
