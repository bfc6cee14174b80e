package mapping

// Kind is a kind of messages. On the way up the messages of one Thing and one kind stay in order, and no kind waits for
// another.
type Kind uint8

const (
	Commands Kind = iota // responses to commands
	Jobs                 // questions about jobs, and their updates
	Shadow               // reports
	Events
)

// Kinds lists them all, those of the class Control first.
var Kinds = [...]Kind{Commands, Jobs, Shadow, Events}

// kindTokens are the subject tokens behind the Thing's, which name the kind.
var kindTokens = [len(Kinds)]string{"commands", "jobs", "shadow", "events"}

// String is also the token behind the Thing's in the kind's subjects.
func (k Kind) String() string { return kindTokens[k] }

// Class is the kind's: commands and jobs never wait behind shadow and events.
func (k Kind) Class() Class {
	if k <= Jobs {
		return Control
	}
	return Telemetry
}

// ParseKind is the inverse of String.
func ParseKind(token string) (Kind, bool) {
	for _, k := range Kinds {
		if kindTokens[k] == token {
			return k, true
		}
	}
	return 0, false
}
