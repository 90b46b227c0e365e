package fhirapi

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/connector/connectortest"
	"tombolo/dataset"
	"tombolo/fhir"
)

// A document responder of IHE MHD is asked by a connector that promises what every connector does.
func TestADocumentRespondersConnectorKeepsTheContract(t *testing.T) {
	const other, stranger = "9990000433", "9990000360"
	// knows answers an ITI-67 search about whom by is asked with one document of theirs.
	knows := func(whom func(asked string) string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := ""
			if r.ParseForm() == nil && strings.HasSuffix(r.URL.Path, "/DocumentReference/_search") {
				if of := whom(r.PostForm.Get("patient.identifier")); of != "" {
					body = `{"resource":` + doc("1", fmt.Sprintf(`"subject":{"identifier":{"system":%q,"value":%q}}`, fhir.SystemNHSNumber, of), "Binary/1") + `}`
				}
			}
			w.Header().Set("Content-Type", "application/fhir+json")
			_, _ = io.WriteString(w, `{"resourceType":"Bundle","type":"searchset","entry":[`+body+`]}`)
		})
	}
	asking := func(nhs string) connector.Question {
		return connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}, Headings: []dataset.Heading{dataset.Documents}}
	}
	bearing := func(nhs string) func(*fhir.Resource) bool {
		return func(p *fhir.Resource) bool { return p.Text("identifier.value") == nhs }
	}
	connectortest.RunAsker(t, connectortest.Fixture{
		New: func(t testing.TB, address string, most int64) connector.Asker {
			d, err := NewDocuments(Options{Source: "mhd", Address: address + "/fhir", MaxBytes: most})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		Source: knows(func(asked string) string {
			if asked == fhir.SystemNHSNumber+"|"+number {
				return number
			}
			return ""
		}),
		Known: asking(number), Unknown: asking(stranger),
		Other:   knows(func(string) string { return other }),
		IsKnown: bearing(number), IsOther: bearing(other), ContentType: "application/fhir+json",
	})
}
