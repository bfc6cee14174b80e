package cloud

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fleetbridge/bridge"
)

// retryAfterMax bounds the pause that the API may ask for: a shadow is not kept stale for longer than that.
const retryAfterMax = time.Hour

// retryLater remembers the pause that a refusal asks for, for all Things: it is the key's or the server's.
func (a *API) retryLater(r *http.Response, err error) error {
	if r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusServiceUnavailable {
		return err
	}
	pause := retryAfter(r.Header, time.Now())
	if pause <= 0 {
		return err
	}
	err = fmt.Errorf("%w; it asks for a pause of %s", err, pause)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.later = &laterThan{time.Now().Add(pause), err}
	return &bridge.RetryLater{After: pause, Err: err}
}

// paused is the refusal whose pause is not over.
func (a *API) paused() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.later == nil {
		return nil
	}
	left := time.Until(a.later.over)
	if left <= 0 {
		a.later = nil
		return nil
	}
	return &bridge.RetryLater{After: left, Err: a.later.cause}
}

// retryAfter reads the header: seconds, or a date, which counts by the server's own clock if it tells the time.
// Anything else is no pause.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseFloat(v, 64); err == nil {
		if !(seconds > 0) {
			return 0
		}
		return time.Duration(min(seconds, retryAfterMax.Seconds()) * float64(time.Second))
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
		now = theirs
	}
	return min(max(at.Sub(now), 0), retryAfterMax).Round(time.Second)
}
