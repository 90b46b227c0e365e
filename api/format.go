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

	"tombolo/access"
	"tombolo/bulk"
	"tombolo/fhir"
	"tombolo/fhir/fhirxml"
	"tombolo/fhir/r4"
)

// A format in which resources are written.
type format int

const (
	none format = iota
	inJSON
	inXML
)

// formats are the names under which clients ask for them. FHIR R4 http.html#mime-type
var formats = map[string]format{
	"application/fhir+json": inJSON, "application/json": inJSON, "text/json": inJSON, "json": inJSON, "*/*": inJSON, "application/*": inJSON, "text/html": inJSON,
	"application/fhir+xml": inXML, "application/xml": inXML, "text/xml": inXML, "xml": inXML,
}

var notAcceptable = fhir.Errorf(fhir.NotSupported, "JSON and XML are offered: ask for application/fhir+json or application/fhir+xml")

// wanted is the format that a client likes best; none if it takes neither. _format is stronger than Accept. FHIR R4 http.html#mime-type
func wanted(r *http.Request) format {
	want := strings.Join(r.Header.Values("Accept"), ",")
	if f := r.URL.Query().Get("_format"); f != "" {
		want = strings.ReplaceAll(f, " ", "+")
	}
	if strings.TrimSpace(want) == "" {
		return inJSON
	}
	best, likes := none, 0.0
	for part := range strings.SplitSeq(want, ",") {
		t, params, _ := mime.ParseMediaType(part)
		q := 1.0
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
		if v := params["fhirversion"]; v != "" && v != "4.0" && v != "4.0.1" { // FHIR R4 http.html#version-parameter
			continue
		}
		if f := formats[t]; f != none && q > likes {
			best, likes = f, q
		}
	}
	return best
}

func acceptable(r *http.Request) error {
	if wanted(r) == none {
		return notAcceptable
	}
	return nil
}

// write sends a resource in the format that is wanted; pretty and packed if asked for.
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	head := w.Header()
	head.Set("Content-Type", "application/fhir+json;charset=utf-8")
	head.Add("Vary", "Accept, Accept-Encoding")
	switch pretty := r.URL.Query().Get("_pretty") == "true"; {
	case wanted(r) == inXML:
		// What was kept before this program held resources to R4 may not fit into XML: then it is given as it is, and called what it is.
		if res, err := fhir.Parse(body); err == nil {
			if out, err := fhirxml.Encode(res); err == nil {
				body = out
				head.Set("Content-Type", "application/fhir+xml;charset=utf-8")
			}
		}
	case pretty:
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
	case r.URL.Path == "/fhir/$import":
		return bulk.MaxImport
	case r.Method == http.MethodPut || r.Method == http.MethodPatch:
		return MaxResource
	case r.Method != http.MethodPost || strings.Contains(r.URL.Path, "$") || strings.HasSuffix(r.URL.Path, "/_search"):
	case strings.Trim(r.URL.Path, "/") == "fhir":
		return MaxWrite
	default:
		return MaxResource
	}
	return MaxBody
}

// body reads the request's body whole, unpacked if it came packed.
func body(r *http.Request) ([]byte, error) {
	limit := limitOf(r)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	from, err := unpacked(r)
	if err != nil {
		return nil, err
	}
	data, err := beginning(r, from)
	if err != nil || len(data) < ordinaryBody {
		return data, err
	}
	if g, ok := r.Body.(*gated); ok { // what came packed may be large only now
		if err := g.take(); err != nil {
			return nil, err
		}
	}
	room := limit
	if from == r.Body && r.ContentLength > 0 {
		room = r.ContentLength
	}
	whole := append(make([]byte, 0, room+1), data...) // in its place at once: no copies while it grows
	for {
		n, err := from.Read(whole[len(whole):cap(whole)])
		whole = whole[:len(whole)+n]
		switch {
		case int64(len(whole)) > limit:
			return nil, &http.MaxBytesError{Limit: limit}
		case err == io.EOF:
			return whole, nil
		case err != nil:
			return nil, err
		}
	}
}

// beginning reads the body as far as is ordinary. Of a small one it believes how long it is said to be.
func beginning(r *http.Request, from io.Reader) ([]byte, error) {
	if from != r.Body || r.ContentLength <= 0 || r.ContentLength > smallBody {
		return io.ReadAll(io.LimitReader(from, ordinaryBody))
	}
	data := make([]byte, r.ContentLength)
	_, err := io.ReadFull(from, data)
	return data, err
}

// unpacked is the request's body, unpacked as it is read if it came packed.
func unpacked(r *http.Request) (io.Reader, error) {
	switch coding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		return r.Body, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "the body is said to be gzip, and is not")
		}
		return z, nil
	}
	return nil, fhir.Errorf(fhir.NotSupported, "send the body as it is, or packed with gzip").At("Content-Type")
}

// mediaType is the type of what was sent, in lower case, without parameters.
func mediaType(r *http.Request) string {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return t
}

// sent reads the resource in a request's body, strictly: every element must be R4's. raw is what came.
func sent(r *http.Request) (raw []byte, res *fhir.Resource, err error) {
	if raw, res, err = read(r); err != nil {
		return nil, nil, err
	}
	return raw, res, shape(res)
}

// shape holds a resource to R4's shape. What must be there, and codes, are left to $validate.
func shape(res *fhir.Resource) error {
	if issues := r4.Check(res, r4.Shape); len(issues) > 0 {
		return allIssues(issues)
	}
	return nil
}

func read(r *http.Request) (raw []byte, res *fhir.Resource, err error) {
	return readBy(r, func(data []byte) (*fhir.Resource, error) {
		if err := fhir.CheckCost(data); err != nil {
			return nil, err
		}
		return fhir.Parse(data)
	})
}

// readBundle is read of a Bundle whose entries are to be read one by one.
func readBundle(r *http.Request) (raw []byte, res *fhir.Resource, err error) {
	return readBy(r, fhir.ParseEnvelope)
}

func readBy(r *http.Request, parse func([]byte) (*fhir.Resource, error)) (raw []byte, res *fhir.Resource, err error) {
	f := inJSON
	if t := mediaType(r); t != "" {
		if f = formats[t]; f == none || strings.Contains(t, "*") || t == "text/html" {
			return nil, nil, fhir.Errorf(fhir.NotSupported, "send a resource as application/fhir+json or application/fhir+xml").At("Content-Type")
		}
		if _, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") && !strings.EqualFold(params["charset"], "utf8") {
			return nil, nil, fhir.Errorf(fhir.NotSupported, "send it in UTF-8, in which FHIR is written: charset=utf-8, or none").At("Content-Type") // FHIR R4 http.html#mime-type
		}
	}
	if raw, err = body(r); err != nil {
		return nil, nil, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil, fhir.Errorf(fhir.Required, "the body is empty: send a resource")
	}
	plain := bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")) // a byte order mark. RFC 8259 §8.1
	switch {
	case f == inXML && len(plain) > maxXML:
		err = fhir.Errorf(fhir.TooLong, "XML is read up to %d bytes: send it in parts, or as JSON, of which more is taken", maxXML)
	case f == inXML && bytes.Count(plain, []byte("<")) > fhir.MaxValues:
		err = fhir.Errorf(fhir.TooCostly, "the XML holds more than %d tags; send it in parts", fhir.MaxValues)
	case f == inXML:
		if res, err = fhirxml.Decode(plain); err == nil { // whose bytes are the XML's in JSON
			res, err = parse(res.Raw())
		}
	default:
		res, err = parse(plain)
	}
	if err == nil {
		err = proportionate(res)
	}
	return raw, res, err
}

// parameters reads a FHIR Parameters resource from the body, strictly. FHIR R4 parameters.html
func parameters(r *http.Request) (fhir.Value, error) {
	if mediaType(r) == "" {
		return fhir.Value{}, fhir.Errorf(fhir.NotSupported, "send a Parameters resource as application/fhir+json").At("Content-Type")
	}
	_, res, err := read(r)
	if err != nil {
		return fhir.Value{}, err
	}
	if res.Type() != "Parameters" {
		return fhir.Value{}, fhir.Errorf(fhir.Structure, "send a Parameters resource, not a %s", res.Type()).At("resourceType")
	}
	return res.Value(), nil
}

// asQuery is an operation that is asked for by POST, with its parameters in the body, as many clients do. FHIR R4 operations.html#executing
func asQuery(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, session *access.Session) error {
		asked := r.Clone(r.Context())
		v := r.URL.Query()
		if r.ContentLength != 0 {
			params, err := parameters(r)
			if err != nil {
				return err
			}
			for p := range params.All("parameter") {
				v.Add(p.Text("name"), parameterText(p))
			}
		}
		asked.Method, asked.Body, asked.ContentLength = http.MethodGet, http.NoBody, 0
		asked.URL.RawQuery = v.Encode()
		return h(w, asked, session)
	}
}

// A preference is what Prefer says. FHIR R4 http.html#ops, RFC 7240
type preference struct {
	returns string // minimal, representation, OperationOutcome; "" if not said
	lenient bool
	async   bool // respond-async
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
			case "respond-async":
				p.async = true
			}
		}
	}
	return p
}
