package console

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

var deadEndpoints = []endpoint{
	{method: "GET", path: "dead", role: viewer, stored: true, query: []string{"thing", "direction", "code", "channel", "before", "limit"},
		about:  "The dead letters, the newest first, without payloads. thing is a token; total counts all letters that are kept, whatever the parameters.",
		sample: `{"items":[` + letterSample + `],"next":"8700","looked":100,"total":17}`,
		answer: (*Console).deadLetters},
	{method: "GET", path: "dead/{id}", role: viewer, stored: true, about: "One dead letter with its payload. check says whether it would be accepted now; it is missing for a letter from the cloud, because those are delivered unchecked. truncated is the length of the whole payload when only its beginning is kept.",
		sample: `{"id":8812,"…":"as in the list","payload":"{…}","check":{"accepted":false,"details":[{"pointer":"/severity","message":"…","span":[23,32]}]}}`,
		answer: (*Console).deadLetter},
	{method: "POST", path: "dead/replay", role: operator, action: "replay", stored: true, about: "Send dead letters on. One that would be refused again is not sent unless force is set. With payload, and one id, that payload is sent in place of the letter's own. If it is refused, the letter stays.",
		body:   `{"ids":[8812,8813],"force":false}`,
		sample: `{"results":[{"id":8812,"ok":true},{"id":8813,"ok":false,"error":"it would be refused again: …","details":[{"pointer":"/severity","message":"…","span":[23,32]}]}]}`,
		answer: (*Console).replay},
	{method: "POST", path: "dead/discard", role: operator, action: "discard", stored: true, about: "Remove dead letters for good.",
		body:   `{"ids":[8812]}`,
		sample: `{"results":[{"id":8812,"ok":true}]}`,
		answer: (*Console).discard},
}

const letterSample = `{"id":8812,"direction":"up","thing":"pump-07","token":"pump-07","channel":"event","code":"schema","error":"/severity: …","received":"…","stored":"…","topic":"$emqx/…","subject":"fleets.up.pump-07.events.hot","storedOn":"fleets.dead.up.…","traceparent":"00-…","bytes":96}`

// letters reads the dead letters.
func (c *Console) letters() (*letters.Letters, error) {
	nc, subjects, err := c.gateway.NATS()
	if err != nil {
		return nil, err
	}
	return letters.New(nc, subjects)
}

func (c *Console) deadLetters(q *request) (any, error) {
	var s letters.Selection
	var err error
	if s.Thing, err = q.thing("thing"); err != nil {
		return nil, err
	}
	if s.Direction, err = word(q.query, "direction", mapping.Up.String(), mapping.Down.String()); err != nil {
		return nil, err
	}
	code, err := word(q.query, "code", bridge.Codes[:]...)
	if err != nil {
		return nil, err
	}
	channel, err := word(q.query, "channel", sightings.Channels...)
	if err != nil {
		return nil, err
	}
	s.Code, s.Channel = string(code), string(channel)
	before, _, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	letters, err := c.letters()
	if err != nil {
		return nil, err
	}
	page, err := letters.Before(q.Context(), s, before, limit)
	if err != nil {
		return nil, err
	}
	out := list[explain.Letter]{Items: []explain.Letter{}}
	for _, l := range page.Items {
		out.Items = append(out.Items, explain.NewLetter(l))
	}
	turn(&out, page)
	return out, nil
}

type letterAnswer struct {
	explain.Letter
	Check *checked `json:"check,omitempty"`
}

// checked is what the bridge would say of a payload now.
type checked struct {
	Accepted bool     `json:"accepted"`
	Details  []detail `json:"details,omitempty"`
}

func (c *Console) deadLetter(q *request) (any, error) {
	id, err := strconv.ParseUint(q.PathValue("id"), 10, 64)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "%q is no number of a dead letter", clean(q.PathValue("id")))
	}
	letters, err := c.letters()
	if err != nil {
		return nil, err
	}
	l, err := letters.Get(q.Context(), id)
	if err != nil {
		return nil, missing(err)
	}
	out := letterAnswer{Letter: explain.NewLetter(l)}
	out.Letter.Payload = newPayload(l.Payload, true)
	if l.Direction == mapping.Up {
		details, err := c.refused(letters, l)
		if err != nil {
			return nil, err
		}
		out.Check = &checked{len(details) == 0, details}
	}
	return out, nil
}

// missing is the error of a letter that is not there.
func missing(err error) error {
	if errors.Is(err, letters.ErrNone) {
		return refuse(http.StatusNotFound, "%s", err)
	}
	return err
}

// refused is what is wrong with the payload of a letter by the rules of now; nothing: it would be accepted.
func (c *Console) refused(letters *letters.Letters, l letters.Letter) ([]detail, error) {
	address, err := letters.Address(l)
	if err != nil {
		return []detail{{Message: err.Error()}}, nil
	}
	v := explain.Validation{Target: explain.At(address), Catalog: c.gateway.Catalog(), Own: c.gateway.Schemas(address.Thing)}
	details, err := v.Check(l.Payload)
	return spans(l.Payload, details), err
}

// spans adds where in the payload details are about.
func spans(payload []byte, details []schemas.Detail) []detail {
	var out []detail
	for _, d := range details {
		one := detail{Pointer: d.Pointer, Message: d.Message}
		if from, to, ok := schemas.Span(payload, d.Pointer); ok {
			one.Span = &[2]int{from, to}
		}
		out = append(out, one)
	}
	return out
}

// actTime is how long one request may act on dead letters. What is left then it says.
const actTime = 8 * time.Second

type deadRequest struct {
	IDs   []uint64 `json:"ids"`
	Force bool     `json:"force"`
	given
}

type result struct {
	ID      uint64   `json:"id"`
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"`
	Details []detail `json:"details,omitempty"`
}

type resultsAnswer struct {
	Results []result `json:"results"`
}

// ids reads which letters a request is about.
func (q *request) ids() (in deadRequest, err error) {
	if err := q.read(&in); err != nil {
		return in, err
	}
	switch n := len(in.IDs); {
	case n == 0:
		return in, refuse(http.StatusBadRequest, "ids is empty, name the dead letters")
	case n > maxBulk:
		return in, refuse(http.StatusBadRequest, "ids has %d members, at most %d go at once", n, maxBulk)
	}
	return in, nil
}

// edited is the payload that somebody wrote in the place of a letter's own; nil: none.
func (in deadRequest) edited() ([]byte, error) {
	payload, err := in.bytes()
	if err == nil && payload != nil && len(in.IDs) > 1 {
		err = refuse(http.StatusBadRequest, "one payload is given for %d dead letters, name the one", len(in.IDs))
	}
	return payload, err
}

func (c *Console) replay(q *request) (any, error) {
	in, err := q.ids()
	if err != nil {
		return nil, err
	}
	edited, err := in.edited()
	if err != nil {
		return nil, err
	}
	letters, err := c.letters()
	if err != nil {
		return nil, err
	}
	return c.each(q, "dead letters were sent on from the console", in.IDs, func(ctx context.Context, id uint64) result {
		return c.replayOne(ctx, letters, id, edited, in.Force)
	}), nil
}

func (c *Console) replayOne(ctx context.Context, letters *letters.Letters, id uint64, edited []byte, force bool) result {
	failed := func(err error) result { return result{ID: id, Error: err.Error()} }
	l, err := letters.Get(ctx, id)
	if err != nil {
		return failed(err)
	}
	if edited != nil {
		l.Payload = edited
	}
	if !force && (edited != nil || l.Direction == mapping.Up) {
		details, err := c.refused(letters, l)
		if err != nil {
			return failed(err)
		}
		if len(details) > 0 {
			first := schemas.Detail{Pointer: details[0].Pointer, Message: details[0].Message}
			return result{ID: id, Error: "it would be refused again: " + first.String(), Details: details}
		}
	}
	if edited != nil {
		err = letters.ReplayAs(ctx, id, edited)
	} else {
		err = letters.Replay(ctx, id)[id]
	}
	if err != nil {
		return failed(err)
	}
	return result{ID: id, OK: true}
}

func (c *Console) discard(q *request) (any, error) {
	in, err := q.ids()
	if err != nil {
		return nil, err
	}
	if in.Payload != nil || in.Base64 != nil || in.Force {
		return nil, refuse(http.StatusBadRequest, "ids is all that discard takes")
	}
	letters, err := c.letters()
	if err != nil {
		return nil, err
	}
	return c.each(q, "dead letters were removed from the console", in.IDs, func(ctx context.Context, id uint64) result {
		if err := letters.Remove(ctx, id)[id]; err != nil {
			return result{ID: id, Error: err.Error()}
		}
		return result{ID: id, OK: true}
	}), nil
}

// each does something with one letter after the other, as long as there is time, and says so in the log.
func (c *Console) each(q *request, what string, ids []uint64, do func(context.Context, uint64) result) resultsAnswer {
	out := resultsAnswer{Results: []result{}}
	end, done := time.Now().Add(actTime), 0
	for _, id := range ids {
		one := result{ID: id, Error: "there was no time left for it; ask again"}
		if time.Now().Before(end) {
			one = do(q.Context(), id)
		}
		if one.OK {
			done++
		}
		out.Results = append(out.Results, one)
	}
	c.log.Info(what, "letters", done, "failed", len(ids)-done, "first", ids[0], "role", q.session.role.String(), "login", q.session.id)
	return out
}
