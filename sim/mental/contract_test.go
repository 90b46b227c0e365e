package mental_test

import (
	"context"
	"testing"

	"tombolo/connector"
	"tombolo/connector/connectortest"
	"tombolo/connector/fhirapi"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/mental"
)

func TestTheClientKeepsTheContract(t *testing.T) {
	dozen := cast.Dozen(today)
	margaret, daniel := dozen[0], dozen[5]
	mixedUp := &sim.Faults{}
	mixedUp.Set(sim.FaultWrongPatient, 0)
	is := func(p cast.Person) func(*fhir.Resource) bool {
		return func(r *fhir.Resource) bool { return r.Text("name.family") == p.Family }
	}
	connectortest.RunAsker(t, connectortest.Fixture{
		New: func(t testing.TB, address string, maxBytes int64) connector.Asker {
			c, err := fhirapi.New(fhirapi.Options{Source: cast.Mental, Address: address, MaxBytes: maxBytes,
				Token: func(context.Context, connector.Requester) (string, error) { return token, nil }})
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Source:  mental.New(mental.Options{People: dozen, Token: token}),
		Known:   about(margaret, gives...),
		Unknown: about(dozen[1], gives...),
		Other:   mental.New(mental.Options{People: []cast.Person{margaret, daniel}, Token: token, Faults: mixedUp}),
		IsKnown: is(margaret), IsOther: is(daniel),
		ContentType: "application/fhir+json",
	})
}
