package federation

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"tombolo/fhir"
)

var discard = log.New(io.Discard, "", 0)

// A Person is who the sources know: the same human by the numbers of each place.
type Person struct {
	Numbers []fhir.Identifier
	Family  string
	Born    string
}

// Code is what makes the nth problem that a source records unmistakable.
func Code(source string, n int) string { return fmt.Sprintf("%s-problem-%d", source, n) }

// Source answers as a small FHIR R4 server for each path below the name of a source: each knows one person, with so many problems. A search that names
// the person otherwise finds nobody.
func Source(who Person, problems int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch rest {
		case "metadata":
			metadata(w)
		case "Patient/_search":
			if r.ParseForm() == nil && asked(who, r.PostForm.Get("identifier")) {
				searchset(w, patient(who, r.Header.Get("Wrong-Patient") != ""))
				return
			}
			searchset(w)
		case "Condition/_search":
			var found []*fhir.Resource
			for n := range problems {
				found = append(found, fhir.New("Condition", fmt.Sprintf("c%d", n), fhir.M{"subject": fhir.Reference{Reference: "Patient/p"},
					"code": fhir.Code("https://tombolo.test/problems", Code(name, n), Code(name, n))}))
			}
			searchset(w, found...)
		default:
			if strings.HasSuffix(rest, "/_search") {
				searchset(w)
				return
			}
			http.NotFound(w, r)
		}
	})
}

func patient(who Person, wrong bool) *fhir.Resource {
	if wrong {
		who = Person{Numbers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000433"}}, Family: "Khan", Born: "2015-11-05"}
	}
	return fhir.New("Patient", "p", fhir.M{"identifier": who.Numbers, "name": []fhir.HumanName{{Family: who.Family, Given: []string{"Ann"}}}, "birthDate": who.Born})
}

func asked(who Person, token string) bool {
	for _, id := range who.Numbers {
		if token == id.System+"|"+id.Value {
			return true
		}
	}
	return false
}

func metadata(w http.ResponseWriter) {
	var resources []fhir.M
	for _, t := range []string{"Patient", "Condition", "AllergyIntolerance"} {
		resources = append(resources, fhir.M{"type": t, "interaction": []fhir.M{{"code": "search-type"}}})
	}
	send(w, fhir.New("CapabilityStatement", "", fhir.M{"status": "active", "kind": "instance", "fhirVersion": "4.0.1", "format": []string{"json"},
		"rest": []fhir.M{{"mode": "server", "resource": resources}}}).Raw())
}

func searchset(w http.ResponseWriter, found ...*fhir.Resource) {
	b := fhir.NewBundle("searchset", "", len(found), 1024)
	for _, r := range found {
		b.Add(r, "match")
	}
	send(w, b.Bytes())
}

func send(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/fhir+json")
	_, _ = w.Write(body)
}
