package cloud

import (
	"context"
	"fmt"
	"net/http"

	"fleetbridge/bridge"
)

// ThingType returns a Fleets Thing Type by its name, as it was received, after a check that it is a JSON object. The
// protocol page does not have this operation: GET /api/v1/thing-types/{name} is what design notes of Fleets say. Nothing
// is retried here. Errors are as those of Shadow.
func (a *API) ThingType(ctx context.Context, name string) ([]byte, error) {
	body, err := a.thingType(ctx, name)
	if err != nil {
		return nil, &fitError{a.fit(err.Error()), err}
	}
	return body, nil
}

func (a *API) thingType(ctx context.Context, name string) ([]byte, error) {
	if err := a.paused(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, body, err := a.get(ctx, "/api/v1/thing-types/"+segment(name))
	if response == nil {
		return nil, err
	}
	what := fmt.Sprintf("Thing Type %q", name)
	switch status := response.StatusCode; {
	case status == http.StatusNotFound:
		return nil, fmt.Errorf("%s is not in Fleets, or fleets.url is not the API endpoint, or this Fleets does not have the operation GET /api/v1/thing-types/{name}%s: %w",
			what, a.problem(body), bridge.ErrNotFound)
	case status != http.StatusOK:
		return nil, a.retryLater(response, a.failure(what, "GET /api/v1/thing-types", status, body))
	}
	return a.document(what, response, body, err)
}
