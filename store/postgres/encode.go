package postgres

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// argument is a value of a type of the migrations, or an array of one, that encodes itself in PostgreSQL's binary
// format. It is used for batches of certificates and ledger entries: pgx's encoding, which plans every field of every
// row, took four times as long.
type argument interface {
	appendTo(b []byte, of *typeIDs) []byte // if b is returned unchanged, the argument is NULL
}

// typeIDs are the object ids that the format requires beside the values.
type typeIDs struct {
	auditBatch, auditEvent, auditEvents, issued, issuedArray, issuedName, issuedNames, ledgerEntry, ledgerEntries uint32
}

// knowTypes registers the types of arguments with a new connection.
func knowTypes(ctx context.Context, conn *pgx.Conn) error {
	var of typeIDs
	var jobChoice uint32
	if err := conn.QueryRow(ctx, `SELECT 'audit_batch'::regtype::oid, 'audit_event'::regtype::oid, 'audit_event[]'::regtype::oid,
		'issued'::regtype::oid, 'issued[]'::regtype::oid, 'issued_name'::regtype::oid, 'issued_name[]'::regtype::oid,
		'ledger_entry'::regtype::oid, 'ledger_entry[]'::regtype::oid, 'job_choice'::regtype::oid`).
		Scan(&of.auditBatch, &of.auditEvent, &of.auditEvents, &of.issued, &of.issuedArray, &of.issuedName, &of.issuedNames, &of.ledgerEntry, &of.ledgerEntries, &jobChoice); err != nil {
		return err
	}
	for name, id := range map[string]uint32{"audit_batch": of.auditBatch, "issued[]": of.issuedArray, "issued_name[]": of.issuedNames, "ledger_entry[]": of.ledgerEntries, "job_choice": jobChoice} {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: name, OID: id, Codec: argumentCodec{&of}})
	}
	return nil
}

// argumentCodec implements pgtype.Codec for arguments. These types are never read.
type argumentCodec struct{ of *typeIDs }

func (argumentCodec) FormatSupported(format int16) bool { return format == pgtype.BinaryFormatCode }

func (argumentCodec) PreferredFormat() int16 { return pgtype.BinaryFormatCode }

func (c argumentCodec) PlanEncode(_ *pgtype.Map, _ uint32, _ int16, value any) pgtype.EncodePlan {
	if _, is := value.(argument); is {
		return c
	}
	return nil
}

// Encode implements pgtype.EncodePlan.
func (c argumentCodec) Encode(value any, b []byte) ([]byte, error) {
	encoded := value.(argument).appendTo(b, c.of)
	if len(encoded) == len(b) {
		return nil, nil
	}
	return encoded, nil
}

func (argumentCodec) PlanScan(*pgtype.Map, uint32, int16, any) pgtype.ScanPlan { return nil }

var errNotRead = errors.New("a type that is sent only")

func (argumentCodec) DecodeDatabaseSQLValue(*pgtype.Map, uint32, int16, []byte) (driver.Value, error) {
	return nil, errNotRead
}

func (argumentCodec) DecodeValue(*pgtype.Map, uint32, int16, []byte) (any, error) {
	return nil, errNotRead
}

// appendArray appends the header of an array of count elements without NULLs. Each element follows, after its length.
func appendArray(b []byte, of uint32, count int) []byte {
	dimensions := uint32(1)
	if count == 0 {
		dimensions = 0
	}
	b = binary.BigEndian.AppendUint32(b, dimensions)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, of)
	if count == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	return binary.BigEndian.AppendUint32(b, 1) // the first index is 1
}

// beginRow begins a row with a number of fields as an element. It leaves room for the length, which endRow fills in.
func beginRow(b []byte, fields int) (row []byte, at int) {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0), uint32(fields)), len(b)
}

func endRow(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

func appendField[T string | []byte](b []byte, of uint32, value T) []byte {
	b = binary.BigEndian.AppendUint32(b, of)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func appendText(b []byte, value string) []byte { return appendField(b, pgtype.TextOID, value) }

func appendBytes(b, value []byte) []byte { return appendField(b, pgtype.ByteaOID, value) }

// appendBytesIf appends value, or NULL if it is absent.
func appendBytesIf(b []byte, there bool, value []byte) []byte {
	if !there {
		return appendNull(b, pgtype.ByteaOID)
	}
	return appendBytes(b, value)
}

func appendNull(b []byte, of uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, of), 1<<32-1)
}

func appendBool(b []byte, value bool) []byte {
	octet := byte(0)
	if value {
		octet = 1
	}
	return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, pgtype.BoolOID), 1), octet)
}

func appendInt2(b []byte, value int16) []byte {
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, pgtype.Int2OID), 2)
	return binary.BigEndian.AppendUint16(b, uint16(value))
}

func appendInt4(b []byte, value int32) []byte {
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, pgtype.Int4OID), 4)
	return binary.BigEndian.AppendUint32(b, uint32(value))
}

func appendInt8(b []byte, value int64) []byte { return appendEight(b, pgtype.Int8OID, value) }

// appendTime appends a time in microseconds since 2000-01-01.
func appendTime(b []byte, t time.Time) []byte {
	return appendEight(b, pgtype.TimestamptzOID, t.UnixMicro()-946_684_800_000_000)
}

func appendEight(b []byte, of uint32, value int64) []byte {
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, of), 8)
	return binary.BigEndian.AppendUint64(b, uint64(value))
}
