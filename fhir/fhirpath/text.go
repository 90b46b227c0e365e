package fhirpath

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"unicode/utf8"
)

// texts are the functions of strings. FHIRPath §5.6; those of 2.1 too
var texts = map[string]*function{
	"indexOf":        {least: 1, most: 1, do: ofText(1, func(s string, a []string) any { return place(s, strings.Index(s, a[0])) })},
	"lastIndexOf":    {least: 1, most: 1, do: ofText(1, func(s string, a []string) any { return place(s, strings.LastIndex(s, a[0])) })},
	"startsWith":     {least: 1, most: 1, do: ofText(1, func(s string, a []string) any { return strings.HasPrefix(s, a[0]) })},
	"endsWith":       {least: 1, most: 1, do: ofText(1, func(s string, a []string) any { return strings.HasSuffix(s, a[0]) })},
	"contains":       {least: 1, most: 1, do: ofText(1, func(s string, a []string) any { return strings.Contains(s, a[0]) })},
	"upper":          {do: ofText(0, func(s string, a []string) any { return strings.ToUpper(s) })},
	"lower":          {do: ofText(0, func(s string, a []string) any { return strings.ToLower(s) })},
	"trim":           {do: ofText(0, func(s string, a []string) any { return strings.TrimSpace(s) })},
	"length":         {do: ofText(0, func(s string, a []string) any { return int64(utf8.RuneCountInString(s)) })},
	"encode":         {least: 1, most: 1, do: ofText(1, encode)},
	"decode":         {least: 1, most: 1, do: ofText(1, decode)},
	"escape":         {least: 1, most: 1, do: ofText(1, escape)},
	"unescape":       {least: 1, most: 1, do: ofText(1, unescape)},
	"replace":        {least: 2, most: 2, do: replace},
	"matches":        {least: 1, most: 1, regex: 1, do: matches},
	"matchesFull":    {least: 1, most: 1, regex: 1, do: matches},
	"replaceMatches": {least: 2, most: 2, regex: 1, do: replaceMatches},
	"substring":      {least: 1, most: 2, do: substring},
	"toChars":        {do: toChars},
	"split":          {least: 1, most: 1, do: split},
	"join":           {most: 1, do: join},
}

// textIn is a function's input as a text; ok is false if it is empty.
func (r *run) textIn(n *call, lo int) (s string, ok bool, err error) {
	it, err := r.oneOf(lo, n.name)
	if err != nil || it == nil {
		return "", false, err
	}
	v := it.system()
	if v == nil && it.typ.primitive() {
		return "", false, nil
	}
	if s, ok = v.(string); !ok {
		return "", false, fault("%s() is asked of a String", n.name)
	}
	return s, true, nil
}

func (r *run) textArgument(n *call, i int) (s string, ok bool, err error) {
	it, err := r.one(n.args[i], "an argument")
	if err != nil || it == nil {
		return "", false, err
	}
	if s, ok = it.system().(string); !ok {
		return "", false, fault("%s() takes a String", n.name)
	}
	return s, true, nil
}

// ofText makes a function of a text with so many texts as arguments; empty in, empty out.
func ofText(arguments int, f func(s string, a []string) any) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		s, ok, err := r.textIn(n, lo)
		if err != nil {
			return err
		}
		args := make([]string, arguments)
		for i := range args {
			a, has, err := r.textArgument(n, i)
			if err != nil {
				return err
			}
			args[i], ok = a, ok && has
		}
		r.stack = r.stack[:lo]
		if !ok {
			return nil
		}
		v := f(s, args)
		if v == nil {
			return nil
		}
		if out, is := v.(string); is {
			if err := r.write(len(out)); err != nil {
				return err
			}
		}
		if err := r.step(len(s) / 64); err != nil {
			return err
		}
		return r.push(computed(v))
	}
}

// place is a byte's index as a character's.
func place(s string, i int) any {
	if i < 0 {
		return int64(-1)
	}
	return int64(utf8.RuneCountInString(s[:i]))
}

func encode(s string, a []string) any {
	switch a[0] {
	case "hex":
		return hex.EncodeToString([]byte(s))
	case "base64":
		return base64.StdEncoding.EncodeToString([]byte(s))
	case "urlbase64":
		return base64.URLEncoding.EncodeToString([]byte(s))
	}
	return nil
}

func decode(s string, a []string) any {
	var b []byte
	var err error
	switch a[0] {
	case "hex":
		b, err = hex.DecodeString(s)
	case "base64":
		b, err = base64.StdEncoding.DecodeString(s)
	case "urlbase64":
		b, err = base64.URLEncoding.DecodeString(s)
	default:
		return nil
	}
	if err != nil || !utf8.Valid(b) {
		return nil
	}
	return string(b)
}

func escape(s string, a []string) any {
	switch a[0] {
	case "html":
		return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;").Replace(s)
	case "json":
		b, err := json.Marshal(s)
		if err != nil {
			return nil
		}
		out := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b))
		return out[1 : len(out)-1]
	}
	return nil
}

func unescape(s string, a []string) any {
	switch a[0] {
	case "html":
		return html.UnescapeString(s)
	case "json":
		return unescapeJSON(s)
	}
	return nil
}

// unescapeJSON resolves JSON's escapes; quotes may stand bare. nil if one is no escape.
func unescapeJSON(s string) any {
	var out string
	quoted := jsonString.ReplaceAllStringFunc(s, func(m string) string {
		if m == `"` {
			return `\"`
		}
		return m
	})
	if json.Unmarshal([]byte(`"`+quoted+`"`), &out) != nil {
		return nil
	}
	return out
}

var jsonString = regexp.MustCompile(`(?s)\\.|"`)

func replace(r *run, n *call, lo int) error {
	s, ok, err := r.textIn(n, lo)
	if err != nil {
		return err
	}
	old, ok1, err := r.textArgument(n, 0)
	if err != nil {
		return err
	}
	with, ok2, err := r.textArgument(n, 1)
	if err != nil {
		return err
	}
	if !ok || !ok1 || !ok2 {
		return r.nothing(lo)
	}
	if err := r.write(len(s) + strings.Count(s, old)*len(with)); err != nil {
		return err
	}
	return r.answer(lo, computed(strings.ReplaceAll(s, old, with)))
}

// pattern is a function's regular expression; nil if it is empty.
func (r *run) pattern(n *call, i int) (*regexp.Regexp, error) {
	if re, ok := n.made.(*regexp.Regexp); ok {
		return re, nil
	}
	s, ok, err := r.textArgument(n, i)
	if err != nil || !ok {
		return nil, err
	}
	if err := r.step(1000); err != nil {
		return nil, err
	}
	re, err := compileRegex(n.name, s)
	if err != nil {
		return nil, fault("the regular expression cannot be read (RE2 syntax; no look-around or back-references)")
	}
	return re, nil
}

func matches(r *run, n *call, lo int) error {
	s, ok, err := r.textIn(n, lo)
	if err != nil {
		return err
	}
	re, err := r.pattern(n, 0)
	if err != nil {
		return err
	}
	if !ok || re == nil {
		return r.nothing(lo)
	}
	if err := r.step(len(s) / 16); err != nil {
		return err
	}
	return r.answer(lo, computed(re.MatchString(s)))
}

var group = regexp.MustCompile(`\$(\d+)`)

func replaceMatches(r *run, n *call, lo int) error {
	s, ok, err := r.textIn(n, lo)
	if err != nil {
		return err
	}
	re, err := r.pattern(n, 0)
	if err != nil {
		return err
	}
	with, has, err := r.textArgument(n, 1)
	if err != nil {
		return err
	}
	if !ok || !has || re == nil {
		return r.nothing(lo)
	}
	if re.String() == "(?s)" { // of nothing, nothing is replaced
		return r.answer(lo, computed(s))
	}
	if err := r.write(len(s) + (len(s)+1)*len(with)); err != nil {
		return err
	}
	// $1 and ${name} as in regular expressions; Go reads $1x as a name
	with = group.ReplaceAllString(with, "$${$1}")
	out := re.ReplaceAllString(s, with)
	if err := r.write(len(out)); err != nil {
		return err
	}
	return r.answer(lo, computed(out))
}

func substring(r *run, n *call, lo int) error {
	s, ok, err := r.textIn(n, lo)
	if err != nil {
		return err
	}
	from, has, err := r.whole(n, 0)
	if err != nil {
		return err
	}
	length := int64(len(s))
	if len(n.args) > 1 {
		v, given, err := r.whole(n, 1)
		if err != nil {
			return err
		}
		if given {
			length = v
		}
	}
	r.stack = r.stack[:lo]
	runes := []rune(s)
	if !ok || !has || from < 0 || from >= int64(len(runes)) {
		return nil
	}
	to := from + max(0, min(length, int64(len(runes))-from))
	if err := r.write(len(s)); err != nil {
		return err
	}
	return r.push(computed(string(runes[from:to])))
}

func toChars(r *run, n *call, lo int) error {
	s, _, err := r.textIn(n, lo)
	r.stack = r.stack[:lo]
	if err != nil {
		return err
	}
	for _, c := range s {
		if err := r.push(computed(string(c))); err != nil {
			return err
		}
	}
	return nil
}

func split(r *run, n *call, lo int) error {
	s, ok, err := r.textIn(n, lo)
	if err != nil {
		return err
	}
	sep, has, err := r.textArgument(n, 0)
	if err != nil {
		return err
	}
	r.stack = r.stack[:lo]
	if !ok || !has {
		return nil
	}
	for part := range strings.SplitSeq(s, sep) {
		if err := r.push(computed(part)); err != nil {
			return err
		}
	}
	return nil
}

func join(r *run, n *call, lo int) error {
	hi, sep := len(r.stack), ""
	if len(n.args) > 0 {
		var err error
		if sep, _, err = r.textArgument(n, 0); err != nil {
			return err
		}
	}
	if hi == lo {
		return nil
	}
	var b strings.Builder
	first := true
	for i := lo; i < hi; i++ {
		v := r.stack[i].system()
		if v == nil && r.stack[i].typ.primitive() { // it has extensions only
			continue
		}
		s, ok := v.(string)
		if !ok {
			return fault("join() is asked of Strings")
		}
		if err := r.write(len(s) + len(sep)); err != nil {
			return err
		}
		if !first {
			b.WriteString(sep)
		}
		first = false
		b.WriteString(s)
	}
	return r.answer(lo, computed(b.String()))
}
