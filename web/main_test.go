package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"tombolo/access/oauth"
	"tombolo/sim/cast"
	"tombolo/sim/lookout"
)

func TestMain(m *testing.M) { os.Exit(lookout.Main(m)) }

// serve puts the pages on a socket, under a lookout that knows what the records hold.
func serve(t testing.TB, o Options) *httptest.Server {
	t.Helper()
	l := lookout.Over(t, lookout.Options{})
	l.Known("Margaret Taylor") // is a user
	if f, ok := o.Records.(*fakeRecords); ok {
		for number := range f.numbers {
			lookout.Hide(number)
		}
		var all []string
		for _, o := range cast.Organisations {
			all = append(all, o.Source)
		}
		for id, w := range f.worlds {
			l.Known(id) // which is a name, in these tests
			for _, section := range w.record(all...).Sections {
				for _, e := range section.Entries {
					l.Seed(e.Lead)
				}
			}
		}
	}
	o.Logger = slog.New(l.Log(slog.DiscardHandler))
	site, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = site
	if o.Apps != nil { // as node mounts it
		mux := http.NewServeMux()
		mux.Handle("/", site)
		mux.Handle("/oauth/", o.Apps)
		mux.Handle(oauth.PathConsent, site)
		mux.Handle("GET "+oauth.PathAuthorize, site)
		handler = mux
	}
	srv := httptest.NewServer(l.Answers(handler))
	t.Cleanup(func() { _ = site.Close(); srv.Close() })
	return srv
}
