package settings

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// where is "file:line" for a field of the file, as far as it stands there.
func where(path string, text []byte, field string) string {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) == nil && len(doc.Content) == 1 {
		node, line := doc.Content[0], 0
		for _, name := range strings.Split(field, ".") {
			if node = mapValue(node, name); node == nil {
				break
			}
			line = node.Line
		}
		if node != nil {
			return fmt.Sprintf("%s:%d", path, line)
		}
	}
	return path
}

func mapValue(node *yaml.Node, name string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

// SetField sets one field of the text of a configuration and leaves the rest, comments included, as it is.
func SetField(text []byte, field, value string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("it is not a mapping")
	}
	if node := mapValue(doc.Content[0], field); node != nil {
		node.SetString(value)
	} else {
		var name, content yaml.Node
		name.SetString(field)
		content.SetString(value)
		doc.Content[0].Content = append(doc.Content[0].Content, &name, &content)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(&doc)
	return out.Bytes(), err
}

// plainYAML keeps the library's lines and drops its Go type names.
func plainYAML(err error) error {
	e, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err
	}
	var lines []string
	for _, line := range e.Errors {
		if before, _, ok := strings.Cut(line, " not found in type "); ok {
			line = before + " is not a field of the configuration"
		}
		lines = append(lines, line)
	}
	return errors.New(strings.Join(lines, "; "))
}
