package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/gateway"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// api fetches every Thing's shadow as the bridge does after each connection.
func (d *Doctor) api(ctx context.Context) {
	if d.over(ctx, checkAPI) {
		return
	}
	f := d.cfg.Fleets
	if f.URL == "" {
		d.skip(checkAPI, "", "fleets.url is not set: a shadow is unknown until the cloud sends it")
		return
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		d.add(Finding{Fail, checkAPI, f.URL, err.Error(), "correct fleets.url"})
		return
	}
	api := cloud.NewAPI(cloud.APIConfig{URL: u, Key: string(f.APIKey), Secret: string(f.APISecret), TLS: f.TLS.Client, Timeout: d.options.Timeout})
	defer api.Close()
	for _, found := range flow.Each(d.cfg.Things, atOnce, func(t gateway.Thing) Finding { return d.shadow(ctx, api, t.Name) }) {
		d.add(found)
	}
	for _, name := range d.cfg.TypeNames() {
		d.add(d.thingType(ctx, api, name))
	}
}

// thingType fetches a Thing Type as the bridge does. Without it, its Things work, by the last known one or by none.
func (d *Doctor) thingType(ctx context.Context, api *cloud.API, name string) Finding {
	ctx, cancel := d.step(ctx)
	defer cancel()
	found := Finding{Check: checkAPI, Subject: name, Status: OK}
	text, err := api.ThingType(ctx, name)
	if err == nil {
		catalog, bad := schemas.New(schemas.Options{})
		if err = bad; err == nil {
			_, _, err = catalog.MakeThingType("what the API has", text)
		}
	}
	if err != nil {
		found.Status, found.Detail = Warn, err.Error()
		found.Mend = "correct thing_type_name or the Thing Type, or write it to a file and name that in thing_type; meanwhile its Things work by the last known one, or by none"
		return found
	}
	found.Detail = fmt.Sprintf("this Thing Type can be read (%d bytes)", len(text))
	return found
}

func (d *Doctor) shadow(ctx context.Context, api *cloud.API, thing string) Finding {
	ctx, cancel := d.step(ctx)
	defer cancel()
	found := Finding{Check: checkAPI, Subject: thing, Status: OK}
	doc, err := api.Shadow(ctx, mapping.Thing(thing))
	switch {
	case err == nil:
		found.Detail = fmt.Sprintf("its shadow can be read (%d bytes)", len(doc))
	case errors.Is(err, bridge.ErrNotFound):
		found.Status, found.Detail = Fail, "Fleets does not know it, or fleets.url is not the API endpoint"
		found.Mend = "register the Thing by exactly this name; names are case-sensitive"
	case strings.Contains(err.Error(), "HTTP status 401"), strings.Contains(err.Error(), "HTTP status 403"):
		found.Status = Fail
		found.Detail, _, _ = strings.Cut(err.Error(), ": ")
		found.Mend = `check fleets.api_key and its secret, and give the key the permission "GET /api/v1/thing-datas"`
	default:
		found.Status, found.Detail = Fail, err.Error()
		found.Mend = "check fleets.url; see dns, tcp and tls above"
	}
	return found
}
