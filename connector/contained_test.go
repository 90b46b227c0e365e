package connector_test

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tombolo/connector"
)

// A panic may quote the patient whose record was being read: the log says where it happened, and not what it says.
func TestWhatAPanicSaysIsNotLogged(t *testing.T) {
	for what, c := range map[string]struct {
		fails func()
		want  string // in the log; "": nothing is logged
	}{
		"words":                        {func() { panic("no such patient: 9990000107") }, "panic=string"},
		"an error":                     {func() { panic(io.ErrUnexpectedEOF) }, "panic=*errors.errorString"},
		"an index that is too great":   {func() { var none []int; _ = none[len(t.Name())] }, "index out of range"},
		"an answer that is given up":   {func() { panic(http.ErrAbortHandler) }, ""},
		"nothing, which is no failure": {func() {}, ""},
	} {
		var said, beside bytes.Buffer
		srv := httptest.NewUnstartedServer(connector.Contained(slog.New(slog.NewTextHandler(&said, nil)), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { c.fails() })))
		srv.Config.ErrorLog = log.New(&beside, "", 0)
		srv.Start()
		resp, err := http.Get(srv.URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		srv.Close()
		if fails := !strings.HasPrefix(what, "nothing"); fails != (err != nil) {
			t.Errorf("%s: the request ended with %v", what, err)
		}
		if got := said.String(); strings.Contains(got+beside.String(), "9990000107") || beside.Len() > 0 || (c.want == "") != (got == "") || !strings.Contains(got, c.want) ||
			got != "" && !strings.Contains(got, "TestWhatAPanicSaysIsNotLogged") {
			t.Errorf("%s: the log says %q, and beside it %q", what, got, beside.String())
		}
	}
}
