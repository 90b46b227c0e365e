package fhirpath

import (
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// conversions are toX() and convertsToX(). FHIRPath §5.5
var conversions = func() map[string]*function {
	m := map[string]*function{
		"toQuantity":         {most: 1, do: toQuantity(false)},
		"convertsToQuantity": {most: 1, do: toQuantity(true)},
	}
	for name, to := range map[string]func(any) any{
		"Boolean": toBoolean, "Integer": toInteger, "Decimal": toDecimal, "Date": toDate, "DateTime": toDateTime, "Time": toTime,
		"String": func(v any) any {
			if s, ok := textOf(v); ok {
				return s
			}
			return nil
		},
	} {
		m["to"+name] = &function{do: converting(to, false)}
		m["convertsTo"+name] = &function{do: converting(to, true)}
	}
	return m
}()

func converting(to func(any) any, ask bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		it, err := r.oneOf(lo, n.name)
		if err != nil || it == nil {
			return err
		}
		v := to(it.system())
		switch {
		case ask:
			return r.answer(lo, computed(v != nil))
		case v == nil:
			return r.nothing(lo)
		}
		return r.answer(lo, computed(v))
	}
}

func toBoolean(v any) any {
	switch v := v.(type) {
	case bool:
		return v
	case int64:
		if v == 0 || v == 1 {
			return v == 1
		}
	case *apd.Decimal:
		if v.IsZero() || v.Cmp(apd.New(1, 0)) == 0 {
			return !v.IsZero()
		}
	case string:
		switch strings.ToLower(v) {
		case "true", "t", "yes", "y", "1", "1.0":
			return true
		case "false", "f", "no", "n", "0", "0.0":
			return false
		}
	}
	return nil
}

func toInteger(v any) any {
	switch v := v.(type) {
	case int64:
		return v
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case string:
		if allDigits(strings.TrimPrefix(strings.TrimPrefix(v, "-"), "+")) {
			if n, err := strconv.ParseInt(v, 10, 32); err == nil {
				return n
			}
		}
	}
	return nil
}

func toDecimal(v any) any {
	switch v := v.(type) {
	case int64, *apd.Decimal:
		d, _ := decimalOf(v)
		return d
	case bool:
		if v {
			return apd.New(10, -1)
		}
		return apd.New(0, -1)
	case string:
		if d, ok := plainNumber(v); ok {
			return d
		}
	}
	return nil
}

func toDate(v any) any {
	switch v := v.(type) {
	case Moment:
		if v.kind == kindTime {
			return nil
		}
		d, ok := v.boundary(false, []int{4, 6, 8}[min(v.precision, toDay)])
		if !ok {
			return nil
		}
		d.kind = kindDate
		return d
	case string:
		if m, ok := parseMoment(v, kindDateTime); ok {
			return toDate(m)
		}
	}
	return nil
}

func toDateTime(v any) any {
	switch v := v.(type) {
	case Moment:
		if v.kind != kindTime {
			v.kind = kindDateTime
			return v
		}
	case string:
		if m, ok := parseMoment(v, kindDateTime); ok {
			return m
		}
	}
	return nil
}

func toTime(v any) any {
	switch v := v.(type) {
	case Moment:
		if v.kind == kindTime {
			return v
		}
	case string:
		if m, ok := parseTime(strings.TrimPrefix(v, "T")); ok {
			return m
		}
	}
	return nil
}

func toQuantity(ask bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		it, err := r.oneOf(lo, n.name)
		if err != nil || it == nil {
			return err
		}
		q, ok := quantityFrom(it.system())
		if ok && len(n.args) > 0 {
			unit, err := r.one(n.args[0], "a unit")
			if err != nil {
				return err
			}
			if unit != nil {
				into := unit.String()
				rat, same := q.to(into)
				if ok = same; ok && q.unit != into {
					q.value, ok = decimalFrom(rat)
					q.unit = into
				}
			}
		}
		switch {
		case ask:
			return r.answer(lo, computed(ok))
		case !ok:
			return r.nothing(lo)
		}
		return r.answer(lo, computed(q))
	}
}

func quantityFrom(v any) (Quantity, bool) {
	switch v := v.(type) {
	case string:
		return parseQuantity(v)
	case bool:
		d := toDecimal(v).(*apd.Decimal)
		return Quantity{value: d, unit: "1"}, true
	}
	return asQuantity(v)
}
