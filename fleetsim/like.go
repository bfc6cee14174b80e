package fleetsim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Traits are what real brokers do within the protocol, or beside it, and the embedded broker does not unless it is told.
// The zero value does none of it. Like makes them of a text, and Knobs says what each is.
type Traits struct {
	ReceiveMaximum    uint16
	MaximumPacketSize uint32
	MaxInflight       int
	KeepWindow        bool
	MaxQueue          int
	DropOldest        bool
	Burst             int
	RetryInterval     time.Duration
	MaxSubscriptions  int
	DenyPublish       []string
	DenySubscribe     []string
	DenyDisconnects   bool
	LoginRefusal      byte
	SilentTakeover    bool
	SilentStop        bool
	KeepSessions      bool
	Flapping          Flapping
}

// Flapping is a ban of For for a client that connects Count times within Within; Count 0: never.
type Flapping struct {
	Count       int
	Within, For time.Duration
}

// Knob is one trait as text.
type Knob struct {
	Name, Value string // Value is its shape; empty: it has none
	Meaning     string
	set         func(*Traits, string) error
}

// Knobs are all of them. Each is named like EMQX's own setting where EMQX has one.
var Knobs = []Knob{
	{"receive-maximum", "N", "Receive Maximum in the CONNACK: so many messages may go up unacknowledged", number(65_535, func(t *Traits, n int) { t.ReceiveMaximum = uint16(n) })},
	{"max-packet", "BYTES", "Maximum Packet Size in the CONNACK", number(1<<28, func(t *Traits, n int) { t.MaximumPacketSize = uint32(n) })},
	{"max-inflight", "N", "so many messages at most go down unacknowledged, whatever the client asks for", number(65_535, func(t *Traits, n int) { t.MaxInflight = n })},
	{"keep-window", "", "the Receive Maximum with which a session began holds until it ends, also when the client asks for another", is(func(t *Traits) { t.KeepWindow = true })},
	{"max-queue", "N", "so many messages wait for a client that is slow or away; the rest is dropped without a word", number(65_000, func(t *Traits, n int) { t.MaxQueue = n })},
	{"drop", "oldest|newest", "what a full queue drops", choice(map[string]func(*Traits){"oldest": func(t *Traits) { t.DropOldest = true }, "newest": func(t *Traits) { t.DropOldest = false }})},
	{"burst", "N", "more messages than this to one client within a tenth of a second end its connection and its session", number(65_000, func(t *Traits, n int) { t.Burst = n })},
	{"retry-interval", "DURATION", "what is not acknowledged for so long is sent again on the same connection", duration(func(t *Traits, d time.Duration) { t.RetryInterval = d })},
	{"max-subscriptions", "N", "filters that a session may hold, those of earlier connections counted; SUBACK 0x97 for the rest", number(65_535, func(t *Traits, n int) { t.MaxSubscriptions = n })},
	{"deny-publish", "FILTER", "publishing on these topics is not authorised, 0x87; may be repeated", word(func(t *Traits, s string) { t.DenyPublish = append(t.DenyPublish, s) })},
	{"deny-subscribe", "FILTER", "this filter is not authorised, 0x87; may be repeated", word(func(t *Traits, s string) { t.DenySubscribe = append(t.DenySubscribe, s) })},
	{"deny-action", "ignore|disconnect", "what is not authorised is refused, or ends the connection with DISCONNECT 0x87", choice(map[string]func(*Traits){"disconnect": func(t *Traits) { t.DenyDisconnects = true }, "ignore": func(t *Traits) { t.DenyDisconnects = false }})},
	{"login-refusal", "CODE", "reason code of the CONNACK for a wrong login", number(255, func(t *Traits, n int) { t.LoginRefusal = byte(n) })},
	{"silent-takeover", "", "a connection whose session another one takes over is closed without a DISCONNECT 0x8E", is(func(t *Traits) { t.SilentTakeover = true })},
	{"silent-stop", "", "a stop closes connections without a DISCONNECT 0x8B", is(func(t *Traits) { t.SilentStop = true })},
	{"keep-sessions", "", "sessions outlive a restart of the broker", is(func(t *Traits) { t.KeepSessions = true })},
	{"flapping", "COUNT/WITHIN/BAN", "a client that connects so often within this time is banned, CONNACK 0x8A, as 15/1m/5m", flapping},
}

// like is a broker by name, as text of knobs.
type like struct{ name, basis, traits string }

const acl = "deny-subscribe=#,deny-subscribe=$SYS/#"

// likes are brokers as they are without configuration. The basis says how what is here was found out.
var likes = []like{
	{
		"emqx-5.3", "EMQX 5.3.2: its core was run; the rule about # is from the source",
		"max-packet=1048576,max-inflight=32,keep-window,max-queue=1000,drop=newest,retry-interval=30s,login-refusal=0x86,silent-stop," + acl,
	},
	{
		"emqx-5.8", "EMQX 5.8.9: its core was run; the rule about # is from the source",
		"receive-maximum=32,max-packet=1048576,max-inflight=32,max-queue=1000,drop=oldest,burst=1000,login-refusal=0x86,silent-stop," + acl,
	},
	{
		"emqx-6", "EMQX 6.3.0-beta.2: only its source was read; what it does not show is as in 5.8",
		"receive-maximum=32,max-packet=1048576,max-inflight=32,max-queue=1000,drop=oldest,burst=1000,login-refusal=0x86,silent-stop,deny-subscribe=+/#," + acl,
	},
	{
		"mosquitto", "mosquitto 2.0.11, run with persistence",
		"receive-maximum=20,keep-window,max-queue=1000,drop=newest,login-refusal=0x87,silent-takeover,silent-stop,keep-sessions",
	},
}

// Likes are the names that Like knows.
func Likes() (names []string) {
	for _, l := range likes {
		names = append(names, l.name)
	}
	return names
}

// DescribeLikes says for each name how it was found out, and which knobs it sets.
func DescribeLikes() (lines [][3]string) {
	for _, l := range likes {
		lines = append(lines, [3]string{l.name, l.basis, l.traits})
	}
	return lines
}

// Like reads the name of a broker with knobs behind it, as emqx-5.8,max-subscriptions=10; knobs alone will do. The
// error names what can't be.
func Like(text string) (Traits, error) {
	var t Traits
	words := strings.Split(text, ",")
	if i := slices.IndexFunc(likes, func(l like) bool { return l.name == words[0] }); i >= 0 {
		words = append(strings.Split(likes[i].traits, ","), words[1:]...)
	} else if !slices.ContainsFunc(Knobs, func(k Knob) bool { name, _, _ := strings.Cut(words[0], "="); return k.Name == name }) {
		return t, fmt.Errorf("%q is no broker: use %s, with knobs behind it as in emqx-5.8,max-subscriptions=10", words[0], strings.Join(Likes(), ", "))
	}
	var wrong []error
	for _, word := range words {
		if err := t.turn(word); err != nil {
			wrong = append(wrong, err)
		}
	}
	return t, errors.Join(wrong...)
}

func (t *Traits) turn(word string) error {
	name, value, given := strings.Cut(word, "=")
	i := slices.IndexFunc(Knobs, func(k Knob) bool { return k.Name == name })
	if i < 0 {
		var names []string
		for _, k := range Knobs {
			names = append(names, k.Name)
		}
		return fmt.Errorf("%q is no knob: use %s", name, strings.Join(names, ", "))
	}
	k := Knobs[i]
	if given != (k.Value != "") {
		if given {
			return fmt.Errorf("%s takes no value, %q is one", name, value)
		}
		return fmt.Errorf("%s: write %s=%s", name, name, k.Value)
	}
	if err := k.set(t, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func is(set func(*Traits)) func(*Traits, string) error {
	return func(t *Traits, _ string) error { set(t); return nil }
}

func number(most int, set func(*Traits, int)) func(*Traits, string) error {
	return func(t *Traits, s string) error {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil || n > uint64(most) {
			return fmt.Errorf("%q is no number from 0 to %d", s, most)
		}
		set(t, int(n))
		return nil
	}
}

func duration(set func(*Traits, time.Duration)) func(*Traits, string) error {
	return func(t *Traits, s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no duration such as 30s", s)
		}
		set(t, d)
		return nil
	}
}

func word(set func(*Traits, string)) func(*Traits, string) error {
	return func(t *Traits, s string) error {
		if s == "" {
			return errors.New("is empty")
		}
		set(t, s)
		return nil
	}
}

func choice(all map[string]func(*Traits)) func(*Traits, string) error {
	return func(t *Traits, s string) error {
		set := all[s]
		if set == nil {
			return fmt.Errorf("%q is none of its words", s)
		}
		set(t)
		return nil
	}
}

func flapping(t *Traits, s string) error {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return fmt.Errorf("%q: write COUNT/WITHIN/BAN, as 15/1m/5m", s)
	}
	n, err := strconv.ParseUint(parts[0], 10, 16)
	within, err1 := time.ParseDuration(parts[1])
	ban, err2 := time.ParseDuration(parts[2])
	if err != nil || err1 != nil || err2 != nil || within <= 0 || ban <= 0 {
		return fmt.Errorf("%q: write COUNT/WITHIN/BAN, as 15/1m/5m", s)
	}
	t.Flapping = Flapping{int(n), within, ban}
	return nil
}
