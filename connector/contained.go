package connector

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
)

// Contained is a handler whose panics end their own request and are told to the log by their kind and place. What a panic says is left out: it may quote what
// was being read, and net/http would print it as it is. A runtime.Error quotes nothing.
//
// A request whose body comes in chunks is the last that is read of its connection. It may have had a Content-Length too, which net/http takes away, and by which
// a proxy may have read it: what that takes for the rest of a body would be read here as a request of its own, with nobody's checks before it. RFC 9112 §6.1
func Contained(log *slog.Logger, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				what := fmt.Sprintf("%T", p)
				if e, ok := p.(runtime.Error); ok {
					what = e.Error()
				}
				log.Error("this program failed on a request; please report it", "panic", what, "at", place())
				panic(http.ErrAbortHandler) // the connection is closed, so that half an answer does not look whole
			}
		}()
		if r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0) { // what HTTP/1.0 means by Transfer-Encoding is not known either
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// place is where a panic came from, innermost first.
func place() string {
	at := make([]uintptr, 32)
	frames := runtime.CallersFrames(at[:runtime.Callers(3, at)])
	var out []string
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			out = append(out, fmt.Sprintf("%s:%d", f.Function, f.Line))
		}
		if !more || len(out) == 8 {
			return strings.Join(out, " < ")
		}
	}
}
