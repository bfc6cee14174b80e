package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
)

// Verdict makes one sentence of what is known of a message.
type Verdict struct {
	ID     string
	Now    time.Time
	Search local.Search
	Seen   []*sightings.Record        // live, the oldest first
	Why    func(mapping.Thing) string // a Thing's messages wait; empty: that is not known
}

// Named is an address without its Thing.
func Named(a mapping.Address) string {
	return strings.TrimSuffix(cmp.Or(string(a.Channel), "-")+" "+a.ID, " ")
}

// FoundAs says what a place means.
func FoundAs(f local.Found) string {
	switch f.Place {
	case local.PlaceWaits:
		return "waits for the cloud"
	case local.PlaceCame:
		return "came from the cloud"
	case local.PlaceDead:
		return "dead letter, " + f.Letter.Code + ": " + f.Letter.Error
	case local.PlaceOpen:
		return f.Action + " has no answer yet, its time ends " + f.Deadline.Local().Format(time.DateTime)
	case local.PlaceAnswered:
		return "has its answer"
	}
	return "leased to " + f.Worker
}

// Seen picks the sightings of what an id belongs to.
func Seen(all []*sightings.Record, id string) (out []*sightings.Record) {
	for _, r := range all {
		if r.ID == id || local.Mentions([]byte(r.Head()), id) || local.SameTrace(r.Parent, id) {
			out = append(out, r)
		}
	}
	return out
}

// last is the newest that was found in a place.
func (v *Verdict) last(p local.Place) *local.Found {
	for i := len(v.Search.Found) - 1; i >= 0; i-- {
		if v.Search.Found[i].Place == p {
			return &v.Search.Found[i]
		}
	}
	return nil
}

// settle removes waiting messages that were seen to end meanwhile: the queue forgets them a moment later.
func (v *Verdict) settle() {
	v.Search.Found = slices.DeleteFunc(v.Search.Found, func(f local.Found) bool {
		return f.Place == local.PlaceWaits && slices.ContainsFunc(v.Seen, func(r *sightings.Record) bool {
			return r.Direction == mapping.Up.String() && r.Sequence == f.Sequence && r.Thing == string(f.Address.Thing) && r.Channel == string(f.Address.Channel)
		})
	})
}

// Sentence says what became of the message. What is stored now counts more than what was seen, and an end more than the steps
// before it.
func (v *Verdict) Sentence() (text string, found bool) {
	v.settle()
	waits, dead := v.last(local.PlaceWaits), v.last(local.PlaceDead)
	answered, open := v.last(local.PlaceAnswered), v.last(local.PlaceOpen)
	ended := v.ended()
	switch {
	case waits != nil:
		text = fmt.Sprintf("%s of %s waits for the cloud since %s", Named(waits.Address), waits.Address.Thing, v.ago(waits.At))
		if why := v.Why(waits.Address.Thing); why != "" {
			text += ": " + why
		}
		return text + ".", true
	case answered != nil:
		return v.answer(answered, dead), true
	case open != nil && v.Now.Before(open.Deadline):
		return fmt.Sprintf("The command %s of %s has waited %s for a program's answer; its time ends in %s.", open.Action, open.Address.Thing, v.ago(open.At), rough(open.Deadline.Sub(v.Now))), true
	case open != nil:
		return fmt.Sprintf("The command %s of %s had no answer when its time ended, %s ago.", open.Action, open.Address.Thing, v.ago(open.Deadline)), true
	case dead != nil && (ended == nil || !ended.At.After(dead.At) || ended.Outcome == bridge.Dead):
		return fmt.Sprintf("Dead letter %d: %s: %s; fleetbridge dead show %d has the whole.", dead.Sequence, dead.Letter.Code, dead.Letter.Error, dead.Sequence), true
	case ended != nil:
		return v.end(ended), true
	}
	if leased := v.last(local.PlaceLeased); leased != nil {
		return fmt.Sprintf("Job %s of %s is leased to worker %s since %s.", v.ID, leased.Address.Thing, leased.Worker, v.ago(leased.At)), true
	}
	if came := v.last(local.PlaceCame); came != nil {
		return fmt.Sprintf("%s of %s came from the cloud %s ago; programs can read it as %s %d.", Named(came.Address), came.Address.Thing, v.ago(came.At), came.Stream, came.Sequence), true
	}
	if len(v.Seen) > 0 {
		r := v.Seen[len(v.Seen)-1]
		return fmt.Sprintf("%s was seen last %s ago: %s.", v.ID, v.ago(r.At), Fate(r)), true
	}
	if v.Search.Blind {
		return "Not found: it is no dead letter. What was delivered is not kept; while fleetbridge tail runs, trace knows that, too.", false
	}
	return "Not found: it does not wait and is no dead letter. What was delivered is not kept; while fleetbridge tail runs, trace knows that, too.", false
}

// ended is the newest end of a message that was seen live.
func (v *Verdict) ended() *sightings.Record {
	for i := len(v.Seen) - 1; i >= 0; i-- {
		switch v.Seen[i].Outcome {
		case bridge.Delivered, bridge.Duplicate, bridge.Dead, bridge.Answered:
			return v.Seen[i]
		}
	}
	return nil
}

func (v *Verdict) end(r *sightings.Record) string {
	what := Named(mapping.Address{Channel: mapping.Channel(r.Channel), ID: r.ID}) + " of " + r.Thing
	switch {
	case r.Outcome == bridge.Answered && r.Code == "":
		return fmt.Sprintf("The request %s was answered %s ago, in %s.", what, v.ago(r.At), Took(r.TookMS))
	case r.Outcome == bridge.Answered:
		return fmt.Sprintf("The request %s was answered %s ago with error %s: %s.", what, v.ago(r.At), r.Code, r.Reason)
	case r.Outcome == bridge.Duplicate:
		return fmt.Sprintf("%s was dropped %s ago as one that had come before.", what, v.ago(r.At))
	case r.Outcome == bridge.Dead:
		return fmt.Sprintf("%s became a dead letter %s ago, which is gone since: %s: %s.", what, v.ago(r.At), r.Code, r.Reason)
	case r.Direction == mapping.Up.String():
		return fmt.Sprintf("%s was delivered %s ago: the broker has it.", what, v.ago(r.At))
	}
	return fmt.Sprintf("%s was delivered %s ago: programs can read it.", what, v.ago(r.At))
}

// answer tells of a command that has its one response, which is not waiting any more.
func (v *Verdict) answer(f *local.Found, dead *local.Found) string {
	text := fmt.Sprintf("The command of %s was answered", f.Address.Thing)
	said := ""
	for _, r := range v.Seen {
		if r.Channel == string(mapping.CommandResponse) && r.Outcome != bridge.Duplicate && r.Outcome != bridge.Dead {
			said = cmp.Or(gjson.Get(r.Head(), "status").String(), said)
			if reason := gjson.Get(r.Head(), "result.error").String(); reason != "" {
				said += ": " + reason
			}
		}
	}
	if said != "" {
		text += " " + said
	}
	text += ", " + v.ago(f.At) + " ago"
	if dead == nil {
		if v.Search.Blind {
			return text + "."
		}
		return text + ", and the broker has the answer."
	}
	letter := fmt.Sprintf("dead letter %d: %s: %s.", dead.Sequence, dead.Letter.Code, dead.Letter.Error)
	if code := bridge.Code(dead.Letter.Code); dead.Address.Channel == mapping.CommandResponse && (code == bridge.CodeRefused || code == bridge.CodeExpired) {
		return text + ", but the broker did not take the answer: " + letter
	}
	return text + "; beside that there is " + letter
}

// ago is how long ago something was.
func (v *Verdict) ago(at time.Time) string { return rough(v.Now.Sub(at)) }

// rough prints a duration for people.
func rough(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// Fate says what became of a message.
func Fate(r *sightings.Record) string {
	out := string(r.Outcome)
	switch r.Outcome {
	case bridge.Answered:
		if r.Code == "" {
			out += " ok"
		}
	case bridge.Decided:
		out = "the bridge answers"
	case bridge.Called:
		return strings.TrimSpace(out + " " + r.Reason)
	}
	if r.Code != "" {
		out += " " + r.Code
	}
	if r.Reason != "" {
		out += ": " + r.Reason
	}
	return out
}

// Took prints milliseconds.
func Took(ms float64) string {
	if ms >= 1000 {
		return time.Duration(ms * float64(time.Millisecond)).Round(10 * time.Millisecond).String()
	}
	return strconv.FormatFloat(ms, 'g', 3, 64) + "ms"
}
