//! One column's values as an Arrow array and back: the types that every Parquet reader agrees on.
//!
//! Knows neither the names of columns nor Parquet. Reading is lenient where other writers differ (width of integers,
//! unit of timestamps, nulls in a required column read as the default), and an error where a value has another type.

use arrow_array::builder::OffsetBufferBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, TimeUnit};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_call::record::Outcome;

/// Why a column's values can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// The file holds another type than the column has.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the column should be.
        expected: &'static str,
        /// What the file holds.
        found: DataType,
    },
    /// A word outside the column's closed set, or a number outside its range.
    #[error("unknown value {0:?}")]
    Value(String),
    /// Arrow refused the parts.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// A Rust type that is a column's cell.
pub(super) trait Cell: Sized {
    /// Whether the column may hold null.
    const NULLABLE: bool;
    /// The column's Arrow type.
    fn data_type() -> DataType;
    /// The column of these cells.
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError>;
    /// The cells of a column.
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError>;
}

/// A struct whose fields are columns: a row of a table, or an element of a list column.
pub(crate) trait Row: Sized + 'static {
    /// A row with every column null or at its default: what a file without a column reads as.
    fn blank() -> Self;
    /// The columns, in order.
    fn columns() -> Vec<Column<Self>>;
}

type Writer<R> = Box<dyn Fn(&[&R]) -> Result<ArrayRef, CellError>>;
type Reader<R> = Box<dyn Fn(&ArrayRef, &mut [R]) -> Result<(), CellError>>;

/// One column of a [`Row`]: its Arrow field, and how to write and read it.
pub(crate) struct Column<R> {
    /// Name, type, nullability.
    pub(crate) field: Field,
    /// The column of these rows.
    pub(super) write: Writer<R>,
    /// Sets the field in as many rows as the array is long.
    pub(super) read: Reader<R>,
}

/// The column of a field whose type is a [`Cell`].
pub(super) fn column<R: 'static, C: Cell + 'static>(
    name: &str,
    get: fn(&R) -> &C,
    get_mut: fn(&mut R) -> &mut C,
) -> Column<R> {
    Column {
        field: Field::new(name, C::data_type(), C::NULLABLE),
        write: Box::new(move |rows| C::write(&rows.iter().map(|row| get(row)).collect::<Vec<&C>>())),
        read: Box::new(move |array, rows| {
            for (row, cell) in rows.iter_mut().zip(C::read(array)?) {
                *get_mut(row) = cell;
            }
            Ok(())
        }),
    }
}

/// The column of a point in time: microseconds since the epoch, UTC.
pub(super) fn time_column<R: 'static>(
    name: &str,
    nullable: bool,
    get: fn(&R) -> Option<i64>,
    set: fn(&mut R, Option<i64>),
) -> Column<R> {
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Column {
        field: Field::new(name, data_type, nullable),
        write: Box::new(move |rows| {
            let micros: TimestampMicrosecondArray = rows.iter().map(|row| get(row)).collect();
            Ok(Arc::new(micros.with_timezone("UTC")))
        }),
        read: Box::new(move |array, rows| {
            for (row, micros) in rows.iter_mut().zip(read_micros(array)?) {
                set(row, micros);
            }
            Ok(())
        }),
    }
}

fn read_micros(array: &ArrayRef) -> Result<Vec<Option<i64>>, CellError> {
    let scaled: Vec<Option<i64>> = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().iter().collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive::<TimestampNanosecondType>()
            .iter()
            .map(|t| t.map(|t| t.div_euclid(1000)))
            .collect(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array
            .as_primitive::<TimestampMillisecondType>()
            .iter()
            .map(|t| t?.checked_mul(1000))
            .collect(),
        DataType::Timestamp(TimeUnit::Second, _) => array
            .as_primitive::<TimestampSecondType>()
            .iter()
            .map(|t| t?.checked_mul(1_000_000))
            .collect(),
        found => {
            return Err(CellError::Type {
                expected: "timestamp",
                found: found.clone(),
            });
        }
    };
    Ok(scaled)
}

fn read_text(array: &ArrayRef) -> Result<Vec<Option<String>>, CellError> {
    match array.data_type() {
        DataType::Utf8 => Ok(array
            .as_string::<i32>()
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect()),
        DataType::LargeUtf8 => Ok(array
            .as_string::<i64>()
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect()),
        DataType::Utf8View => Ok(array
            .as_string_view()
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect()),
        found => Err(CellError::Type {
            expected: "string",
            found: found.clone(),
        }),
    }
}

fn read_i64(array: &ArrayRef) -> Result<Vec<Option<i64>>, CellError> {
    match array.data_type() {
        DataType::Int64 => Ok(array.as_primitive::<Int64Type>().iter().collect()),
        DataType::Int32 => Ok(array
            .as_primitive::<Int32Type>()
            .iter()
            .map(|n| n.map(i64::from))
            .collect()),
        found => Err(CellError::Type {
            expected: "int64",
            found: found.clone(),
        }),
    }
}

fn read_i32(array: &ArrayRef) -> Result<Vec<Option<i32>>, CellError> {
    let narrow = |wide: i64| i32::try_from(wide).map_err(|_| CellError::Value(wide.to_string()));
    read_i64(array)?
        .into_iter()
        .map(|wide| wide.map(narrow).transpose())
        .collect()
}

fn read_f64(array: &ArrayRef) -> Result<Vec<Option<f64>>, CellError> {
    match array.data_type() {
        DataType::Float64 => Ok(array.as_primitive::<Float64Type>().iter().collect()),
        DataType::Float32 => Ok(array
            .as_primitive::<Float32Type>()
            .iter()
            .map(|x| x.map(f64::from))
            .collect()),
        found => Err(CellError::Type {
            expected: "float64",
            found: found.clone(),
        }),
    }
}

fn read_bool(array: &ArrayRef) -> Result<Vec<Option<bool>>, CellError> {
    match array.as_boolean_opt() {
        Some(bools) => Ok(bools.iter().collect()),
        None => Err(CellError::Type {
            expected: "bool",
            found: array.data_type().clone(),
        }),
    }
}

/// The required and the nullable cell of one scalar type.
macro_rules! scalar {
    ($type:ty, $data_type:expr, $array:ty, $read:ident) => {
        impl Cell for $type {
            const NULLABLE: bool = false;
            fn data_type() -> DataType {
                $data_type
            }
            fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
                Ok(Arc::new(
                    cells.iter().map(|cell| Some((*cell).clone())).collect::<$array>(),
                ))
            }
            fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
                Ok($read(array)?.into_iter().map(Option::unwrap_or_default).collect())
            }
        }

        impl Cell for Option<$type> {
            const NULLABLE: bool = true;
            fn data_type() -> DataType {
                $data_type
            }
            fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
                Ok(Arc::new(
                    cells.iter().map(|cell| (*cell).clone()).collect::<$array>(),
                ))
            }
            fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
                $read(array)
            }
        }
    };
}

scalar!(i32, DataType::Int32, Int32Array, read_i32);
scalar!(i64, DataType::Int64, Int64Array, read_i64);
scalar!(f64, DataType::Float64, Float64Array, read_f64);
scalar!(bool, DataType::Boolean, BooleanArray, read_bool);

/// Text is borrowed while it is written: bodies are large.
impl Cell for String {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
        Ok(Arc::new(
            cells.iter().map(|cell| Some(cell.as_str())).collect::<StringArray>(),
        ))
    }
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
        Ok(read_text(array)?.into_iter().map(Option::unwrap_or_default).collect())
    }
}

impl Cell for Option<String> {
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
        Ok(Arc::new(
            cells.iter().map(|cell| cell.as_deref()).collect::<StringArray>(),
        ))
    }
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
        read_text(array)
    }
}

impl Cell for Outcome {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
        Ok(Arc::new(
            cells.iter().map(|cell| Some(cell.as_str())).collect::<StringArray>(),
        ))
    }
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
        let parse = |word: Option<String>| match word {
            Some(word) => Outcome::from_name(&word).ok_or(CellError::Value(word)),
            None => Ok(Outcome::default()),
        };
        read_text(array)?.into_iter().map(parse).collect()
    }
}

impl<R: Row> Cell for R {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Struct(R::columns().into_iter().map(|column| column.field).collect())
    }
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for column in R::columns() {
            arrays.push((column.write)(cells)?);
            fields.push(column.field);
        }
        Ok(Arc::new(StructArray::try_new(Fields::from(fields), arrays, None)?))
    }
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
        let Some(structs) = array.as_struct_opt() else {
            return Err(CellError::Type {
                expected: "struct",
                found: array.data_type().clone(),
            });
        };
        let mut rows: Vec<R> = (0..structs.len()).map(|_| R::blank()).collect();
        for column in R::columns() {
            if let Some(values) = structs.column_by_name(column.field.name()) {
                (column.read)(values, &mut rows)?;
            }
        }
        Ok(rows)
    }
}

/// A list is never null; a null that another writer put there reads as empty.
impl<C: Cell + 'static> Cell for Vec<C> {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::List(element::<C>())
    }
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
        let mut offsets = OffsetBufferBuilder::<i32>::new(cells.len());
        cells.iter().for_each(|cell| offsets.push_length(cell.len()));
        let elements: Vec<&C> = cells.iter().flat_map(|cell| cell.iter()).collect();
        let values = C::write(&elements)?;
        Ok(Arc::new(ListArray::try_new(
            element::<C>(),
            offsets.finish(),
            values,
            None,
        )?))
    }
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
        let Some(lists) = array.as_list_opt::<i32>() else {
            return Err(CellError::Type {
                expected: "list",
                found: array.data_type().clone(),
            });
        };
        let mut elements: Vec<Option<C>> = C::read(lists.values())?.into_iter().map(Some).collect();
        let mut take = |index: usize| elements.get_mut(index).and_then(Option::take);
        let cells = ranges(lists.value_offsets(), array.as_ref()).map(|range| range.filter_map(&mut take).collect());
        Ok(cells.collect())
    }
}

fn element<C: Cell>() -> Arc<Field> {
    Arc::new(Field::new("element", C::data_type(), C::NULLABLE))
}

impl Cell for BTreeMap<String, String> {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Map(map_entries(), false)
    }
    fn write(cells: &[&Self]) -> Result<ArrayRef, CellError> {
        let mut offsets = OffsetBufferBuilder::<i32>::new(cells.len());
        cells.iter().for_each(|cell| offsets.push_length(cell.len()));
        let keys: StringArray = cells.iter().flat_map(|cell| cell.keys()).map(Some).collect();
        let values: StringArray = cells.iter().flat_map(|cell| cell.values()).map(Some).collect();
        let entries = StructArray::try_new(map_fields(), vec![Arc::new(keys), Arc::new(values)], None)?;
        Ok(Arc::new(MapArray::try_new(
            map_entries(),
            offsets.finish(),
            entries,
            None,
            false,
        )?))
    }
    fn read(array: &ArrayRef) -> Result<Vec<Self>, CellError> {
        let Some(maps) = array.as_map_opt() else {
            return Err(CellError::Type {
                expected: "map",
                found: array.data_type().clone(),
            });
        };
        let (keys, values) = (read_text(maps.keys())?, read_text(maps.values())?);
        let entry = |index: usize| {
            let key = keys.get(index)?.clone()?;
            Some((key, values.get(index).cloned().flatten().unwrap_or_default()))
        };
        Ok(ranges(maps.value_offsets(), array.as_ref())
            .map(|range| range.filter_map(entry).collect())
            .collect())
    }
}

fn map_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ])
}

fn map_entries() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(map_fields()), false))
}

/// Where each list's elements lie among the values; empty for a null list.
fn ranges<'a>(offsets: &'a [i32], array: &'a dyn Array) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
    offsets.windows(2).enumerate().map(|(row, bounds)| match bounds {
        [start, end] if array.is_valid(row) => usize::try_from(*start).unwrap_or(0)..usize::try_from(*end).unwrap_or(0),
        _ => 0..0,
    })
}
