package schemas

import (
	"errors"
	"testing"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

func TestCheckAddress(t *testing.T) {
	at := func(c mapping.Channel, id string) mapping.Address {
		return mapping.Address{Thing: "pump-07", Channel: c, ID: id}
	}
	for _, c := range []struct {
		address       mapping.Address
		payload, want string
	}{
		{at(mapping.Event, "boot"), `{"eventType":"boot"}`, ""},
		{at(mapping.Event, "boot"), `{"\u0065ventType":"b\u006fot"}`, ""},
		{at(mapping.Event, "com.acme.boot"), `{"eventType":"com.acme.boot"}`, ""},
		{at(mapping.Event, "boot"), `{"eventType":"Boot"}`, `/eventType: "Boot" is not the event type in the address, use "boot"`},
		{at(mapping.Event, "boot"), `{}`, `/eventType: is missing, add "boot", the event type in the address`},
		{at(mapping.Event, "7"), `{"eventType":7}`, `/eventType: must be a string, the event type in the address: "7"`},
		{at(mapping.JobsGet, ""), `{}`, ""},
		{at(mapping.JobsGet, ""), `{"thingName":"pump-07"}`, ""},
		{at(mapping.JobsGet, ""), `{"thingName":"pump-08"}`, `/thingName: "pump-08" is not the Thing in the address, use "pump-07"`},
		{at(mapping.JobsStartNext, ""), `{"thingName":"x"}`, `/thingName: "x" is not the Thing in the address, use "pump-07"`},
		{at(mapping.JobGet, "j"), `{"thingName":"x"}`, `/thingName: "x" is not the Thing in the address, use "pump-07"`},
		{at(mapping.JobUpdate, "j"), `{"thingName":"x"}`, `/thingName: "x" is not the Thing in the address, use "pump-07"`},
		{at(mapping.JobUpdate, "j"), `{"thingName":null}`, `/thingName: must be a string, the Thing in the address: "pump-07"`},
		{at(mapping.ShadowReport, ""), `{"thingName":"x","eventType":"y"}`, ""},
		{at(mapping.CommandResponse, "e"), `{"thingName":"x"}`, ""},
		{at(mapping.JobUpdateAccepted, "j"), `{"thingName":"x"}`, ""},
	} {
		err := CheckAddress(c.address, []byte(c.payload))
		var e *Error
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%v %s: %v", c.address, c.payload, err)
		case c.want != "" && (!errors.As(err, &e) || e.Code != CodeSchema || e.Error() != c.want):
			t.Errorf("%v %s:\n got %v\nwant %s", c.address, c.payload, err, c.want)
		}
	}
}

func TestCheckEventType(t *testing.T) {
	for payload, want := range map[string]string{
		`{"eventType":"com.acme 7"}`: "",
		`{"eventType":"a/b"}`:        `/eventType: "a/b" can be no event type in an address: contains '/', which MQTT topics reserve`,
		`{"eventType":"a\u0007"}`:    `/eventType: "a\a" can be no event type in an address: contains the control character U+0007`,
	} {
		err := CheckEventType([]byte(payload))
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s:\n got %v\nwant %s", payload, err, want)
		}
	}
}

func TestLooksLikeSeconds(t *testing.T) {
	for payload, want := range map[string]bool{
		`{"timestamp":1780000000}`: true, `{"timestamp":99999999999}`: true,
		`{"timestamp":1780000000123}`: false, `{"timestamp":0}`: false, `{"timestamp":"1780000000"}`: false, `{}`: false,
	} {
		if got := LooksLikeSeconds(gjson.Get(payload, "timestamp")); got != want {
			t.Errorf("%s: %v", payload, got)
		}
	}
}
