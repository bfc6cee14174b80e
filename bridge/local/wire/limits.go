package wire

import (
	"crypto/sha256"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats-server/v2/server"
)

// LongestSubject leaves room in a line for what else is in it: the server ends a connection whose line is
// longer than it takes. A legal subject is much shorter.
const LongestSubject = server.MAX_CONTROL_LINE_SIZE / 2

// ProgramText is a program's text for a log that may have enough lines of a kind: it is spelled when it is written.
type ProgramText string

// LogValue implements slog.LogValuer.
func (q ProgramText) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%.200q", string(q))) }

// longestID is how many bytes an id may have as it is. The server keeps each in memory for two minutes, however long.
const longestID = 256

// ShortID is an id, or in the place of a long one its hash.
func ShortID(id string) string {
	if len(id) <= longestID {
		return id
	}
	return fmt.Sprintf("sha256 %x", sha256.Sum256([]byte(id)))
}
