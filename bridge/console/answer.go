package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

// failure is an answer that says what is wrong, and the mend.
type failure struct {
	Code    int      `json:"code"`
	Message string   `json:"message"`
	Details []detail `json:"details,omitempty"`
}

func (f *failure) Error() string { return f.Message }

func refuse(code int, format string, args ...any) *failure {
	return &failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

// detail is what is wrong at one place of a payload. Span are the byte offsets of that place, if there is one.
type detail struct {
	Pointer string  `json:"pointer"`
	Message string  `json:"message"`
	Span    *[2]int `json:"span,omitempty"`
}

// fail answers with an error. What is no failure has to do with the store, and passes.
func (c *Console) fail(w http.ResponseWriter, err error) {
	f := (*failure)(nil)
	if !errors.As(err, &f) {
		f = refuse(http.StatusServiceUnavailable, "%s", err)
	}
	if f.Code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	c.write(w, f.Code, f)
}

func (c *Console) write(w http.ResponseWriter, code int, out any) {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(out); err != nil {
		code = http.StatusInternalServerError
		b.Reset()
		_ = lines.Encode(refuse(code, "the answer can't be printed: %s", err))
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes())
}

// read decodes a request's body.
func (q *request) read(into any) error {
	d := json.NewDecoder(q.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more behind the object")
		}
	}
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return refuse(http.StatusRequestEntityTooLarge, "the request has more than %d bytes", large.Limit)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "the request is not as it should be: %s", err)
	}
	return nil
}

// query has the parameters of a request, each of which the endpoint knows.
type query struct{ values url.Values }

func parseQuery(raw string, known []string) (query, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return query{}, refuse(http.StatusBadRequest, "the query can't be read: %s", err)
	}
	for name, given := range values {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return query{}, refuse(http.StatusBadRequest, "%q is no parameter here, there are none", clean(name))
		case !slices.Contains(known, name):
			return query{}, refuse(http.StatusBadRequest, "%q is no parameter here, there are %s", clean(name), strings.Join(known, ", "))
		case len(given) > 1:
			return query{}, refuse(http.StatusBadRequest, "%s is given more than once", name)
		case !utf8.ValidString(given[0]):
			return query{}, refuse(http.StatusBadRequest, "%s is no UTF-8", name)
		}
	}
	return query{values}, nil
}

func (q query) text(name string) string { return q.values.Get(name) }

// number reads a parameter that is one, from 0 to most.
func (q query) number(name string, preset, most uint64) (uint64, error) {
	text := q.values.Get(name)
	if text == "" {
		return preset, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > most {
		return 0, refuse(http.StatusBadRequest, "%s is %q, write a number from 0 to %d", name, clean(text), most)
	}
	return n, nil
}

// limit is how many items somebody wants.
func (q query) limit() (int, error) {
	n, err := q.number("limit", pageItems, maxItems)
	return int(max(n, 1)), err
}

const (
	pageItems = 100
	maxItems  = 500
)

// word reads a parameter that is one of a few words, or absent.
func word[T ~string](q query, name string, known ...T) (T, error) {
	text := T(q.values.Get(name))
	if text != "" && !slices.Contains(known, text) {
		words := make([]string, len(known))
		for i, k := range known {
			words[i] = string(k)
		}
		return "", refuse(http.StatusBadRequest, "%s is %q, write one of %s", name, clean(string(text)), strings.Join(words, ", "))
	}
	return text, nil
}

// thing reads a parameter that is a Thing's token, or absent.
func (q query) thing(name string) (mapping.Thing, error) {
	text := q.values.Get(name)
	if text == "" {
		return "", nil
	}
	t, err := parseToken(text)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "%s: %s", name, err)
	}
	return t, nil
}

func parseToken(token string) (mapping.Thing, error) {
	name, err := mapping.Untoken(token)
	if err != nil {
		return "", err
	}
	return mapping.ParseThing(name)
}

// maxHead is how much of a payload a list has.
const maxHead = 4 << 10

// newPayload takes the head of a payload, or all of it.
func newPayload(b []byte, whole bool) explain.Payload {
	if whole {
		return explain.NewPayload(b, 0)
	}
	return explain.NewPayload(b, maxHead)
}

// clean makes something that somebody sent fit for a message.
func clean(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// list is a page of items. Next leads to the next page; empty: there is none.
type list[T any] struct {
	Items  []T    `json:"items"`
	Next   string `json:"next,omitempty"`
	Looked int    `json:"looked,omitempty"`
	Total  uint64 `json:"total,omitempty"`
}

// maxBulk is how many dead letters one request acts on.
const maxBulk = 1000
