package demo

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"fleetbridge/mapping"
)

// account prints. A message is two lines: its way, programs on the left and the cloud on the right, and
// below it the payload.
type account struct {
	out    io.Writer
	color  bool
	err    error
	failed func(error) // told once when nothing can be printed any more
}

// Columns. A line is at most width wide.
const (
	width        = 110
	margin       = "    "
	whoWidth     = 10
	subjectWidth = 49
	topicWidth   = width - len(margin) - whoWidth - subjectWidth - 10
	labelWidth   = 12
	payloadWidth = width - len(margin) - 2 - labelWidth - 1
)

// style is an ANSI colour or weight.
type style string

const (
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	blue   style = "34"
	cyan   style = "36"
)

func (a *account) paint(s style, text string) string {
	if !a.color || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (a *account) printf(format string, args ...any) {
	if a.err != nil {
		return
	}
	if _, a.err = fmt.Fprintf(a.out, format, args...); a.err != nil && a.failed != nil {
		a.failed(a.err)
	}
}

// addresses are what the header shows.
type addresses struct{ nats, mqtt, fleets, health, console, config string }

func (a *account) header(x addresses) {
	a.printf("%s\n\n", a.paint(bold, "fleetbridge demo: a gateway with one Thing, and its cloud, all in this process"))
	a.printf("    Programs speak NATS on behalf of the Thing %s; fleetbridge holds its one MQTT session.\n\n", Thing)
	a.printf("    programs ── NATS ──▶ fleetbridge ── the Thing's one MQTT session ──▶ broker ──▶ Fleets (simulated)\n")
	a.printf("             ◀──────────             ◀──────────────────────────────────        ◀──\n\n")
	for _, l := range []struct{ name, url, about string }{
		{"NATS", x.nats, "programs connect here"},
		{"MQTT", x.mqtt, "the simulator's broker"},
		{"Fleets", x.fleets, "its HTTP API"},
		{"health", x.health + "/readyz", "of the bridge; also /healthz and /metrics"},
	} {
		a.printf("    %s %-33s %s\n", a.paint(bold, pad(l.name, 8)), l.url, a.paint(dim, l.about))
	}
	a.console(x)
	a.printf("\n    Each message is two lines: its way through the bridge, and its payload, shortened. Where the bridge\n")
	a.printf("    adds to the payload, a third line shows what it sent.\n")
	a.printf("    …/ stands for $emqx/things/%s/, or $emqx/commands/things/%s/.\n\n", Thing, Thing)
	a.printf("    %s\n", a.paint(dim, pad("program", whoWidth)+"     "+pad("NATS subject", subjectWidth)+"     MQTT topic"))
}

// console prints where the page for people is, if there is one.
func (a *account) console(x addresses) {
	if x.console != "" {
		a.printf("\n    %s see it in a browser, within two minutes:\n    %s\n", a.paint(bold, pad("console", 8)), x.console)
	}
}

func (a *account) heading(n int, f flow) {
	a.printf("\n%s %s\n", a.paint(cyan, fmt.Sprintf("%2d", n)), a.paint(bold, f.name))
	a.printf("%s%s\n\n", margin, f.shows)
}

func (a *account) rows(rows []row) {
	hints, hinted := 0, false
	for i := range rows {
		if r := &rows[i]; r.hint() && hinted {
			hints++
		} else {
			hinted = hinted || r.hint()
			a.row(r)
		}
	}
	if hints > 0 {
		a.printf("%s%s\n", margin, a.paint(dim, fmt.Sprintf("… and %d more of these hints, on jobs.notify and jobs.notify-next", hints)))
	}
}

func (a *account) row(r *row) {
	if r.kind == warning {
		a.printf("%s%s  %s  %s\n", margin, a.paint(cyan, pad(r.who, whoWidth)), a.paint(yellow, "!"), a.paint(dim, cut("logs: "+shorten(string(r.payload)), width-len(margin)-whoWidth-5)))
		return
	}
	arrow := a.paint(blue, "←")
	if r.up {
		arrow = a.paint(green, "→")
	}
	topic := cut(shorten(shortTopic(r.topic)), topicWidth)
	switch {
	case r.up && r.dead:
		topic = a.paint(red, "✗") + " goes no further"
	case r.up && topic == "" && r.stored:
		topic = a.paint(yellow, "stored")
	}
	first := pad(shorten(r.subject), subjectWidth)
	switch {
	case !r.up && r.over:
		first = a.paint(red, "✗") + " " + pad(r.subject, subjectWidth-2)
	case r.up && r.subject == "" && r.address.Channel == mapping.JobsGet:
		first = pad("by itself, at each connection", subjectWidth)
	case r.up && r.subject == "":
		first = pad("not seen on NATS", subjectWidth)
	case r.subject == "":
		first = pad("not passed on", subjectWidth)
	}
	way := a.paint(cyan, pad(shorten(r.who), whoWidth)) + "  " + arrow + "  " + first
	if topic != "" {
		way += "  " + arrow + "  " + topic
	}
	a.printf("%s%s\n", margin, strings.TrimRight(way, " "))
	a.line(r.what, string(r.payload))
	if r.up && r.subject != "" && r.wire != nil && string(r.wire) != string(r.payload) {
		a.line("sent as", cutInside(shorten(string(r.wire)), payloadWidth))
	}
	for _, n := range r.notes {
		a.line(n.label, n.text)
	}
}

// line prints what belongs to the message above.
func (a *account) line(label, text string) {
	if text == "" {
		text = "(empty)"
	}
	a.printf("%s  %s %s\n", margin, pad(shorten(label), labelWidth), a.paint(dim, cut(shorten(text), payloadWidth)))
}

func (a *account) tick(text string) {
	a.printf("%s%s %s\n", margin, a.paint(green, "✓"), text)
}

// cross prints an error, and of a failed check what was expected and what was there.
func (a *account) cross(err error) {
	u, ok := err.(*unexpected)
	if !ok {
		a.printf("%s%s %s\n", margin, a.paint(red, "✗"), err)
		return
	}
	a.printf("%s%s %s\n", margin, a.paint(red, "✗"), u.what)
	a.printf("%s    expected  %s\n%s    got       %s\n", margin, u.want, margin, u.got)
}

func (a *account) summary(total int, failed []string, took time.Duration) {
	mark := a.paint(green, "✓")
	if len(failed) > 0 {
		mark = a.paint(red, "✗")
	}
	a.printf("\n%s %s %s\n", mark, a.paint(bold, fmt.Sprintf("%d of %d flows work", total-len(failed), total)),
		a.paint(dim, fmt.Sprintf("(in %.1f s)", took.Seconds())))
	for _, f := range failed {
		a.printf("  %s %s\n", a.paint(red, "✗"), f)
	}
}

// shortTopic leaves out what all topics of the Thing have in common.
func shortTopic(topic string) string {
	for _, root := range []string{"$emqx/things/" + Thing + "/", "$emqx/commands/things/" + Thing + "/"} {
		if tail, ok := strings.CutPrefix(topic, root); ok {
			return "…/" + tail
		}
	}
	return topic
}

// What people don't read: UUIDs, and numbers that are longer than a time in milliseconds.
var (
	uuids = regexp.MustCompile(`\b([0-9a-f]{4})[0-9a-f]{4}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)
	longs = regexp.MustCompile(`\b(\d{4})\d{12,}\b`)
)

// shorten makes one line of a payload that people can read.
func shorten(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return longs.ReplaceAllString(uuids.ReplaceAllString(text, "$1…"), "$1…")
}

// cut ends a text that is too long with an ellipsis.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// cutInside leaves both ends of a text: what the bridge adds to a payload stands at its end.
func cutInside(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	tail := most / 2
	return string(runes[:most-tail-1]) + "…" + string(runes[len(runes)-tail:])
}

func pad(text string, to int) string {
	text = cut(text, to)
	return text + strings.Repeat(" ", to-utf8.RuneCountInString(text))
}

// counts prints the table of the last flow.
func (a *account) counts(up, down outcomes, questions int) {
	a.printf("%s%s\n", margin, a.paint(dim, "            delivered   duplicate   dead"))
	for _, d := range []struct {
		name string
		o    outcomes
		note string
	}{{"up", up, fmt.Sprintf("and %d questions to the cloud, which are answered or fail", questions)}, {"down", down, ""}} {
		line := fmt.Sprintf("%-9s %11d %11d %6d   %s", d.name, d.o.delivered, d.o.duplicate, d.o.dead, a.paint(dim, d.note))
		a.printf("%s%s\n", margin, strings.TrimRight(line, " "))
	}
}
