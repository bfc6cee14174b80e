package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
)

// verdict makes one sentence of what is known of a message.
type verdict struct {
	id     string
	now    time.Time
	search local.Search
	seen   []*sightings.Record        // live, the oldest first
	blind  error                      // why nothing live is known
	why    func(mapping.Thing) string // a Thing's messages wait; empty: that is not known
}

// print shows the evidence in the order of time, and then the sentence.
func (v *verdict) print(s streams) error {
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	for _, f := range v.search.Found {
		lines = append(lines, line{f.At, fmt.Sprintf("%-12s %-24s %s", printable(string(f.Address.Thing)), shortened(printable(named(f.Address))), printable(foundAs(f)))})
		if f.Stream != "" {
			lines[len(lines)-1].text += fmt.Sprintf(", %s %d", f.Stream, f.Sequence)
		}
		if len(f.Payload) > 0 {
			lines[len(lines)-1].text += "  " + inLine(string(f.Payload))
		}
	}
	for _, r := range v.seen {
		_, text, _ := strings.Cut(tailLine(sightings.Line{Record: r}), " ")
		lines = append(lines, line{r.At, strings.TrimLeft(text, "▲▼● ")})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		if _, err := fmt.Fprintf(s.out, "%s  %s\n", l.at.Local().Format("2006-01-02 15:04:05.000"), l.text); err != nil {
			return err
		}
	}
	for _, stream := range v.search.Left {
		fmt.Fprintf(s.err, "fleetbridge: trace: of %s only the newest messages were looked at\n", stream)
	}
	if v.search.Blind {
		fmt.Fprintln(s.err, "fleetbridge: trace: what waits for the cloud is in no stream here, and was not looked at")
	}
	if v.blind != nil {
		fmt.Fprintf(s.err, "fleetbridge: trace: what passed live is not known: %s\n", printable(v.blind.Error()))
	}
	text, found := v.sentence()
	if _, err := fmt.Fprintln(s.out, printable(text)); err != nil {
		return err
	}
	if !found {
		return errReported
	}
	return nil
}

func named(a mapping.Address) string {
	return strings.TrimSuffix(cmp.Or(string(a.Channel), "-")+" "+a.ID, " ")
}

// inLine is a payload in a line.
func inLine(payload string) string {
	return shortened(printable(strings.Join(strings.Fields(payload), " ")))
}

func foundAs(f local.Found) string {
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

// last is the newest that was found in a place.
func (v *verdict) last(p local.Place) *local.Found {
	for i := len(v.search.Found) - 1; i >= 0; i-- {
		if v.search.Found[i].Place == p {
			return &v.search.Found[i]
		}
	}
	return nil
}

// settle takes out what was seen to end since: a queue forgets it a moment later.
func (v *verdict) settle() {
	v.search.Found = slices.DeleteFunc(v.search.Found, func(f local.Found) bool {
		return f.Place == local.PlaceWaits && slices.ContainsFunc(v.seen, func(r *sightings.Record) bool {
			return r.Direction == mapping.Up.String() && r.Sequence == f.Sequence && r.Thing == string(f.Address.Thing) && r.Channel == string(f.Address.Channel)
		})
	})
}

// sentence tells what became of it. What is there now counts more than what was, and the end more than the way there.
func (v *verdict) sentence() (text string, found bool) {
	v.settle()
	waits, dead := v.last(local.PlaceWaits), v.last(local.PlaceDead)
	answered, open := v.last(local.PlaceAnswered), v.last(local.PlaceOpen)
	ended := v.ended()
	switch {
	case waits != nil:
		text = fmt.Sprintf("%s of %s waits for the cloud since %s", named(waits.Address), waits.Address.Thing, v.ago(waits.At))
		if why := v.why(waits.Address.Thing); why != "" {
			text += ": " + why
		}
		return text + ".", true
	case answered != nil:
		return v.answer(answered, dead), true
	case open != nil && v.now.Before(open.Deadline):
		return fmt.Sprintf("The command %s of %s has waited %s for a program's answer; its time ends in %s.", open.Action, open.Address.Thing, v.ago(open.At), rough(open.Deadline.Sub(v.now))), true
	case open != nil:
		return fmt.Sprintf("The command %s of %s had no answer when its time ended, %s ago.", open.Action, open.Address.Thing, v.ago(open.Deadline)), true
	case dead != nil && (ended == nil || !ended.At.After(dead.At) || ended.Outcome == bridge.Dead):
		return fmt.Sprintf("Dead letter %d: %s: %s; fleetbridge dead show %d has the whole.", dead.Sequence, dead.Letter.Code, dead.Letter.Error, dead.Sequence), true
	case ended != nil:
		return v.end(ended), true
	}
	if leased := v.last(local.PlaceLeased); leased != nil {
		return fmt.Sprintf("Job %s of %s is leased to worker %s since %s.", v.id, leased.Address.Thing, leased.Worker, v.ago(leased.At)), true
	}
	if came := v.last(local.PlaceCame); came != nil {
		return fmt.Sprintf("%s of %s came from the cloud %s ago; programs can read it as %s %d.", named(came.Address), came.Address.Thing, v.ago(came.At), came.Stream, came.Sequence), true
	}
	if len(v.seen) > 0 {
		r := v.seen[len(v.seen)-1]
		return fmt.Sprintf("%s was seen last %s ago: %s.", v.id, v.ago(r.At), fate(r)), true
	}
	if v.search.Blind {
		return "Not found: it is no dead letter. What was delivered is not kept; while fleetbridge tail runs, trace knows that, too.", false
	}
	return "Not found: it does not wait and is no dead letter. What was delivered is not kept; while fleetbridge tail runs, trace knows that, too.", false
}

// ended is the newest end of a message that was seen live.
func (v *verdict) ended() *sightings.Record {
	for i := len(v.seen) - 1; i >= 0; i-- {
		switch v.seen[i].Outcome {
		case bridge.Delivered, bridge.Duplicate, bridge.Dead, bridge.Answered:
			return v.seen[i]
		}
	}
	return nil
}

func (v *verdict) end(r *sightings.Record) string {
	what := named(mapping.Address{Channel: mapping.Channel(r.Channel), ID: r.ID}) + " of " + r.Thing
	switch {
	case r.Outcome == bridge.Answered && r.Code == "":
		return fmt.Sprintf("The request %s was answered %s ago, in %s.", what, v.ago(r.At), took(r.TookMS))
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
func (v *verdict) answer(f *local.Found, dead *local.Found) string {
	text := fmt.Sprintf("The command of %s was answered", f.Address.Thing)
	said := ""
	for _, r := range v.seen {
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
		if v.search.Blind {
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
func (v *verdict) ago(at time.Time) string { return rough(v.now.Sub(at)) }

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
