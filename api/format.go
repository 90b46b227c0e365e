package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// The names under which clients ask for JSON. FHIR R4 http.html#mime-type
var jsonNames = map[string]bool{"application/fhir+json": true, "application/json": true, "text/json": true, "json": true}

var notAcceptable = fhir.Errorf(fhir.NotSupported, "only JSON is offered: ask for application/fhir+json")

// acceptable refuses a request for a format that is not offered. _format is stronger than Accept. FHIR R4 http.html#mime-type
func acceptable(r *http.Request) error {
	want := strings.Join(r.Header.Values("Accept"), ",")
	if f := r.URL.Query().Get("_format"); f != "" {
		want = strings.ReplaceAll(f, " ", "+")
	}
	if strings.TrimSpace(want) == "" {
		return nil
	}
	for part := range strings.SplitSeq(want, ",") {
		t, params, err := mime.ParseMediaType(part)
		if q, qerr := strconv.ParseFloat(params["q"], 64); err != nil && t == "" || qerr == nil && q == 0 {
			continue
		}
		if v := params["fhirversion"]; v != "" && v != "4.0" && v != "4.0.1" { // FHIR R4 http.html#version-parameter
			continue
		}
		if jsonNames[t] || t == "*/*" || t == "application/*" || t == "text/html" {
			return nil
		}
	}
	return notAcceptable
}

// write sends a resource, as JSON; pretty and packed if asked for.
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	head := w.Header()
	head.Set("Content-Type", "application/fhir+json;charset=utf-8")
	head.Add("Vary", "Accept, Accept-Encoding")
	if r.URL.Query().Get("_pretty") == "true" {
		var b bytes.Buffer
		if json.Indent(&b, body, "", "  ") == nil {
			body = b.Bytes()
		}
	}
	if len(body) > 1<<10 && r.Method != http.MethodHead && accepts(r, "gzip") {
		head.Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		_, _ = z.Write(body)
		_ = z.Close()
		return
	}
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// accepts reports whether a client takes a content coding. RFC 9110 §12.5.3
func accepts(r *http.Request, coding string) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, q, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			v, err := strconv.ParseFloat(strings.TrimPrefix(strings.ReplaceAll(q, " ", ""), "q="), 64)
			return err != nil || v > 0
		}
	}
	return false
}

// limitOf is how large a request's body may be.
func limitOf(r *http.Request) int64 {
	switch {
	case r.Method == http.MethodPut || r.Method == http.MethodPatch:
		return MaxWrite
	case r.Method == http.MethodPost && !strings.Contains(r.URL.Path, "$") && !strings.HasSuffix(r.URL.Path, "/_search"):
		return MaxWrite
	}
	return MaxBody
}

// body reads the request's body whole, unpacked if it came packed.
func body(r *http.Request) ([]byte, error) {
	limit := limitOf(r)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	var from io.Reader = r.Body
	switch coding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "the body is said to be gzip, and is not")
		}
		from = io.LimitReader(z, limit+1)
	default:
		return nil, fhir.Errorf(fhir.NotSupported, "send the body as it is, or packed with gzip").At("Content-Type")
	}
	data, err := io.ReadAll(from)
	if err == nil && int64(len(data)) > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return data, err
}

// mediaType is the type of what was sent, in lower case, without parameters.
func mediaType(r *http.Request) string {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return t
}

// sent reads the resource in a request's body, strictly.
func sent(r *http.Request) (raw []byte, res *fhir.Resource, err error) {
	if t := mediaType(r); !jsonNames[t] && t != "" {
		return nil, nil, fhir.Errorf(fhir.NotSupported, "send a resource as application/fhir+json").At("Content-Type")
	}
	if raw, err = body(r); err != nil {
		return nil, nil, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil, fhir.Errorf(fhir.Required, "the body is empty: send a resource")
	}
	if bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")) { // a byte order mark. RFC 8259 §8.1
		raw = raw[3:]
	}
	res, err = fhir.Parse(raw)
	return raw, res, err
}

// parameters reads a FHIR Parameters resource from the body, strictly. FHIR R4 parameters.html
func parameters(r *http.Request) (fhir.Value, error) {
	if !jsonNames[mediaType(r)] {
		return fhir.Value{}, fhir.Errorf(fhir.NotSupported, "send a Parameters resource as application/fhir+json").At("Content-Type")
	}
	_, res, err := sent(r)
	if err != nil {
		return fhir.Value{}, err
	}
	if res.Type() != "Parameters" {
		return fhir.Value{}, fhir.Errorf(fhir.Structure, "send a Parameters resource, not a %s", res.Type()).At("resourceType")
	}
	return res.Value(), nil
}

// A preference is what Prefer says. FHIR R4 http.html#ops, RFC 7240
type preference struct {
	returns string // minimal, representation, OperationOutcome; "" if not said
	lenient bool
}

func preferences(r *http.Request) preference {
	var p preference
	for _, line := range r.Header.Values("Prefer") {
		for word := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ',' || c == ';' || c == ' ' }) {
			switch k, v, _ := strings.Cut(word, "="); strings.ToLower(k) {
			case "return":
				p.returns = strings.Trim(v, `"`)
			case "handling":
				p.lenient = strings.Trim(v, `"`) == "lenient"
			}
		}
	}
	return p
}
