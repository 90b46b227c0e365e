package node_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/kv/enginetest"
	"tombolo/kv/pebble"
	"tombolo/locator"
	"tombolo/store"
)

// An error never means "not kept": whoever registers, changes or takes away a pointer and hears no answer does the same again, and it is kept, changed or gone once.
func TestAPointersWriteThatIsNotAnsweredIsRepeated(t *testing.T) {
	d := openLocator(t, pointed)
	engine, err := pebble.Open(pebble.Options{Dir: filepath.Join(t.TempDir(), "pointers")})
	if err != nil {
		t.Fatal(err)
	}
	var next atomic.Int32 // fate
	u := enginetest.Unsure{Engine: engine, Fate: func() enginetest.Fate { return enginetest.Fate(next.Swap(0)) }}
	db, err := store.Open(store.Options{Engine: u})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d.n.Registry = locator.NewRegistry(db)
	kept := func() (all []locator.Registered) {
		t.Helper()
		of, err := d.n.Registry.Of(t.Context(), "9999999999")
		if err != nil {
			t.Fatal(err)
		}
		return of
	}
	for i, lost := range []enginetest.Fate{enginetest.LostBefore, enginetest.LostAfter} {
		written := lost == enginetest.LostAfter
		t.Run(fmt.Sprintf("written %v", written), func(t *testing.T) {
			again := func(method, path, body string, well int) http.Header {
				t.Helper()
				q := nrlAsk{as: "mh.example", side: "producer", method: method, path: path, ods: "Y05868", body: body, headers: map[string]string{nrl.HeaderCorrelation: fmt.Sprint("c", i)}}
				next.Store(int32(lost))
				if code, _, said := d.ask(t, q); code < 500 {
					t.Fatalf("%s whose answer is lost: %d %s", method, code, said)
				}
				code, header, said := d.ask(t, q)
				if code != well {
					t.Fatalf("%s again: %d %s", method, code, said)
				}
				return header
			}
			at := again("POST", "/DocumentReference", pointerBody(t, nil), 201).Get("Location")
			if all := kept(); len(all) != 1 || !strings.HasSuffix(at, "/"+all[0].ID) {
				t.Fatalf("registered twice: %d are there, told of %s", len(all), at)
			}
			id := kept()[0].ID
			changed := pointerBody(t, fhir.M{"id": id, "content.0.attachment.url": "ssp://p1.nhs.uk/Other.pdf"})
			again("PUT", "/DocumentReference/"+id, changed, 200)
			if all := kept(); len(all) != 1 || !strings.Contains(string(all[0].Doc), "Other.pdf") {
				t.Fatalf("changed: %d are there, %s", len(all), all[0].Doc)
			}
			again("DELETE", "/DocumentReference/"+id, "", 200)
			if all := kept(); len(all) != 0 {
				t.Fatalf("taken away, and %d are there", len(all))
			}
		})
	}
}
