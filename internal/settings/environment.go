package settings

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/internal/written"
)

// overrideFromEnv sets every leaf field, those of maps aside, whose variable is set; path is that of the struct.
func overrideFromEnv(v reflect.Value, path []string, getenv func(string) string) (field []string, err error) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("yaml")
		if tag == "" || tag == "-" || v.Field(i).Kind() == reflect.Map { // labels are no names of variables
			continue
		}
		at := append(path[:len(path):len(path)], tag)
		if tag == written.Inline {
			at = path
		}
		if v.Field(i).Kind() == reflect.Struct {
			if field, err := overrideFromEnv(v.Field(i), at, getenv); err != nil {
				return field, err
			}
			continue
		}
		text := getenv(envName(at))
		if text == "" {
			continue
		}
		if err := setField(v.Field(i), text); err != nil {
			return at, err
		}
	}
	return nil, nil
}

func setField(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		*p = strings.Split(text, ",")
	case *time.Duration:
		d, err := written.ParseDuration(text)
		if err != nil {
			return err
		}
		*p = d
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*p = n
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = b
	}
	return nil
}

// otherVariables are those that mean something besides the fields of the configuration: the last two are given to the
// commands that the agent runs.
var otherVariables = []string{"SIGNET_CONFIG", "SIGNET_OUTPUT", "SIGNET_PASSPHRASE", "SIGNET_CERTIFICATE", "SIGNET_KEY"}

// orchestrated are the variables that Kubernetes and Docker set in every container for a service named signet or signet-...
var orchestrated = regexp.MustCompile(`_SERVICE_(HOST|PORT(_.*)?)$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// UnknownVariables are those of os.Environ that begin with SIGNET_ and set nothing: what somebody meant to set is left at
// its default. They are no error, since scripts around Signet name their own variables so too.
func UnknownVariables(environ []string) (unknown []string) {
	known := make(map[string]bool)
	for _, name := range otherVariables {
		known[name] = true
	}
	var c Config
	_, _ = overrideFromEnv(reflect.ValueOf(&c).Elem(), nil, func(name string) string { known[name] = true; return "" }) // sets nothing
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if value != "" && strings.HasPrefix(name, "SIGNET_") && !known[name] && !orchestrated.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func envName(path []string) string {
	return "SIGNET_" + strings.ToUpper(strings.Join(path, "_"))
}
