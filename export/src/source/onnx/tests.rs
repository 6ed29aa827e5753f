//! Which part of a model is read, and as what.

use super::testing::Attribute::{Float, Int};
use super::testing::{Model, array, float_tensor, int_tensor};
use super::*;
use crate::graph::ValueType;
use crate::source::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::source::onnx::proto::type_proto;

fn negated(model: Model) -> Model {
    model.node("Neg", "x", "y", &[]).output("y")
}

fn shape_of_input(model: &Model, selection: &Selection<'_>) -> Result<String, String> {
    let foreign = read(&model.bytes(), selection).map_err(|error| error.to_string())?;
    let input = foreign.graph.input_named(&foreign.input).unwrap();
    Ok(foreign.graph.shape(input).to_string())
}

#[test]
fn several_of_the_selected_input_have_the_batch_behind_their_number() {
    for (batch, extents, wanted) in [
        (-1, [5, -1, 3], "[5, N, 3]"),
        (4, [5, 4, 3], "[5, N, 3]"),
        (4, [4, 4, 3], "[4, N, 3]"),
        (4, [4, 2, 3], "[N, 2, 3]"),
        (-1, [-1, 2, 3], "[N, 2, 3]"),
    ] {
        let axis = i64::from(wanted.starts_with("[N"));
        let foreign = Model::new()
            .input("x", &[batch, 3])
            .input("more", &extents)
            .ints("axes", &[axis])
            .node("ReduceSum", "more axes", "sum", &[("keepdims", Int(0))])
            .node("Add", "x sum", "y", &[])
            .output("y")
            .read();
        let more = foreign.graph.input_named("more").unwrap();
        assert_eq!(foreign.graph.shape(more).to_string(), wanted, "{extents:?}");
    }
}

#[test]
fn axis_0_is_the_batch() {
    let [any, one, four] = [Batch::Symbolic, Batch::Fixed(1), Batch::Fixed(4)];
    for (extents, asked, batch, wanted) in [
        ([-1, 3], None, any, "[N, 3]"),
        ([0, 3], None, any, "[N, 3]"),
        ([-1, 3], Some(four), four, "[N, 3]"),
        ([4, 3], None, four, "[N, 3]"),
        ([4, 3], Some(any), any, "[N, 3]"),
        ([4, 3], Some(one), one, "[N, 3]"),
        // The only image: its axis is one like any other.
        ([1, 3], None, one, "[1, 3]"),
        ([1, 3], Some(one), one, "[1, 3]"),
        ([-1, 3], Some(one), one, "[1, 3]"),
        ([1, 3], Some(any), any, "[N, 3]"),
        ([1, 3], Some(four), four, "[N, 3]"),
    ] {
        let model = negated(Model::new().input("x", &extents));
        let selection = Selection {
            batch: asked,
            ..Selection::default()
        };
        let shape = shape_of_input(&model, &selection).unwrap();
        assert_eq!(shape, wanted, "{extents:?}");
        let foreign = read(&model.bytes(), &selection).unwrap();
        assert_eq!(foreign.batch, batch, "{extents:?}");
    }
}

/// The sum over all axes is an energy of one image; of four it mixes them.
#[test]
fn only_one_image_may_be_summed_with_itself() {
    let [one, four] = [1, 4].map(|size| Some(Batch::Fixed(size)));
    for (extent, asked, is_read) in [
        (1, None, true),
        (-1, one, true),
        (-1, None, false),
        (-1, four, false),
        (1, Some(Batch::Symbolic), false),
        (4, None, false),
        (4, one, false),
    ] {
        let model = Model::new()
            .input("x", &[extent, 3])
            .node("ReduceSum", "x", "y", &[("keepdims", Int(0))])
            .output("y");
        let selection = Selection {
            batch: asked,
            ..Selection::default()
        };
        match read(&model.bytes(), &selection) {
            Ok(_) => assert!(is_read, "{extent} {asked:?}"),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !is_read && error.contains("or fix the batch to 1"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn open_extents_are_stated_by_the_user() {
    let open = || negated(Model::new().input("x", &[-1, 3, -1, -1]));
    let mut bare = negated(Model::new().input("x", &[-1]));
    if let Some(kind) = &mut bare.graph().input[0].r#type
        && let Some(type_proto::Value::TensorType(tensor)) = &mut kind.value
    {
        tensor.shape = None;
    }
    let stated = |image: &'static [usize]| Selection {
        image: Some(image),
        ..Selection::default()
    };
    for (model, selection, wanted) in [
        (open(), stated(&[3, 8, 9]), Ok("[N, 3, 8, 9]")),
        (
            open(),
            stated(&[2, 8, 9]),
            Err("its shape [?, 3, ?, ?] is not the one that was given, [2, 8, 9]"),
        ),
        (
            open(),
            stated(&[3, 8]),
            Err("is not the one that was given, [3, 8]"),
        ),
        (
            open(),
            Selection::default(),
            Err("its shape [?, 3, ?, ?] is open behind the batch; fix it"),
        ),
        (
            bare,
            Selection::default(),
            Err("its shape is open; state it"),
        ),
    ] {
        match (shape_of_input(&model, &selection), wanted) {
            (Ok(shape), Ok(wanted)) => assert_eq!(shape, wanted),
            (Err(problem), Err(wanted)) => assert!(problem.contains(wanted), "{problem}"),
            (got, wanted) => panic!("{got:?}, expected {wanted:?}"),
        }
    }
}

#[test]
fn further_inputs_have_the_batch_where_the_selected_one_has_it() {
    let model = Model::new()
        .input("x", &[4, 3])
        .input("label", &[4, 3])
        .input("scale", &[3])
        .input("offset", &[])
        .node("Mul", "x scale", "scaled", &[])
        .node("Add", "scaled label", "sum", &[])
        .node("Add", "sum offset", "y", &[])
        .output("y");
    let graph = model.read().graph;
    let shapes: Vec<String> = graph
        .inputs()
        .map(|input| graph.shape(input).to_string())
        .collect();
    assert_eq!(shapes, ["[N, 3]", "[N, 3]", "[3]", "[]"]);
}

#[test]
fn inputs_that_nothing_needs_are_left_out() {
    let model = Model::new()
        .typed_input("text", DataType::String, &[-1])
        .input("images", &[-1, 2])
        .input("more", &[-1, -1])
        .typed_input("label", DataType::Int64, &[-1])
        .node("Neg", "more", "z", &[])
        .node("Neg", "images", "y", &[])
        .output("y");
    let selection = Selection {
        input: Some("images"),
        ..Selection::default()
    };
    let foreign = read(&model.bytes(), &selection).unwrap();
    assert_eq!(
        foreign.model().unwrap().unused_inputs,
        ["text", "more", "label"]
    );
    assert_eq!(foreign.graph.inputs().count(), 1);
}

/// Nobody differentiates by a label: of several inputs the only one of floats is meant.
#[test]
fn labels_need_no_name_of_the_images() {
    let model = Model::new()
        .typed_input("label", DataType::Int64, &[-1, 1])
        .input("images", &[-1, 2])
        .node("Cast", "label", "number", &[("to", Int(1))])
        .node("Mul", "images number", "y", &[])
        .output("y");
    assert_eq!(model.read().input, "images");
}

#[test]
fn floats_of_every_width_are_read_as_f32() {
    for kind in [
        DataType::Float,
        DataType::Double,
        DataType::Float16,
        DataType::Bfloat16,
    ] {
        let model = negated(Model::new().typed_input("x", kind, &[-1, 3]));
        let Energy { graph, .. } = model.read();
        for value in graph.values() {
            let wanted = ValueType::f32(Shape::batched(&[3]));
            assert_eq!(*graph.value_type(value), wanted, "{kind:?}");
        }
        let x = array(&[1, 3], &[1.5, -2.0, 0.25]);
        assert_eq!(model.evaluate(&x), -x, "{kind:?}");
    }
}

#[test]
fn refuses_inputs_and_outputs_that_do_not_fit() {
    let two = |inputs: [&str; 2]| {
        let model = Model::new()
            .input(inputs[0], &[-1, 2])
            .input(inputs[1], &[-1, 2]);
        model.node("Add", &inputs.join(" "), "y", &[]).output("y")
    };
    let mut declared = negated(Model::new().input("x", &[-1, 3]));
    declared.graph().output[0].r#type = negated(Model::new().input("x", &[-1, 4])).graph().input[0]
        .r#type
        .clone();
    for (model, wanted) in [
        (
            two(["a", "b"]),
            "the model has the inputs [\"a\", \"b\"]; say with respect to which one to differentiate",
        ),
        (
            negated(Model::new().typed_input("x", DataType::Uint8, &[-1, 3])),
            "input \"x\": it holds UINT8, expected floats; export the model without the cast",
        ),
        (
            negated(Model::new().typed_input("x", DataType::Int64, &[-1, 3])),
            "it holds INT64",
        ),
        (
            negated(Model::new().input("x", &[3])),
            "it is [3], expected a batch on axis 0",
        ),
        (
            negated(Model::new().input("x", &[-1, 1 << 40])),
            "expected a number from 0",
        ),
        (
            negated(Model::new().input("x", &[-1, 1 << 30, 1 << 30])),
            "is too large",
        ),
        (
            negated(Model::new().input("x", &[1 << 30, 3])),
            "expected a batch from 1",
        ),
        (
            declared,
            "output \"y\" is declared as [?, 4], but its nodes make it [N, 3]",
        ),
        (
            Model::new()
                .input("x", &[-1, 3])
                .node("Shape", "x", "y", &[])
                .output("y"),
            "is not computed as floats",
        ),
        (
            Model::new().input("x", &[-1, 3]).output("y"),
            "is not computed as floats",
        ),
        (
            negated(Model::new().input("x", &[-1, 3])).output("z"),
            "the model has the outputs [\"y\", \"z\"]; say which one to take",
        ),
    ] {
        let problem = model.problem();
        assert!(problem.contains(wanted), "{problem}");
    }
    let model = two(["x", "b"]);
    for (selection, wanted) in [
        (
            Selection {
                input: Some("c"),
                ..Selection::default()
            },
            "the graph has no input \"c\"; it has [\"x\", \"b\"]",
        ),
        (
            Selection {
                outputs: &["c"],
                ..Selection::default()
            },
            "the graph has no output \"c\"; it has [\"y\"]",
        ),
    ] {
        let problem = read(&model.bytes(), &selection).unwrap_err().to_string();
        assert_eq!(problem, wanted);
    }
}

#[test]
fn a_value_within_is_read_with_what_it_needs() {
    let model = Model::new()
        .input("x", &[-1, 2])
        .node("Exp", "x", "features", &[])
        .node("Poem", "features", "y", &[])
        .output("y");
    let select = |output| Selection {
        outputs: output,
        ..Selection::default()
    };
    let foreign = read(&model.bytes(), &select(&["features"])).unwrap();
    assert_eq!(foreign.output, "features");
    assert_eq!(foreign.model().unwrap().other_outputs, ["y"]);
    let output = foreign.graph.output("features").unwrap();
    assert_eq!(foreign.graph.shape(output), &Shape::batched(&[2]));
    let problem = read(&model.bytes(), &select(&["z"]))
        .unwrap_err()
        .to_string();
    assert!(
        problem.ends_with("it has [\"y\", \"features\"]"),
        "{problem}"
    );
}

#[test]
fn initialisers_keep_their_names_and_what_nothing_needs_is_not_looked_at() {
    let model = Model::new()
        .input("x", &[-1, 2])
        .floats("layer.bias", &[2], &[1.0, 2.0])
        .floats("unused", &[1], &[f32::NAN])
        .node("Add", "x layer.bias", "y", &[])
        .node(
            "Poem",
            "x",
            "z",
            &[("lines", Int(4)), ("metre", Float(0.5))],
        )
        .output("y");
    let foreign = model.read();
    assert_eq!(foreign.weights.keys().collect::<Vec<_>>(), ["layer.bias"]);
}

#[test]
fn an_initialiser_that_is_an_input_too_is_no_input() {
    let model = Model::new()
        .input("x", &[-1, 2])
        .input("bias", &[2])
        .floats("bias", &[2], &[1.0, 2.0]);
    let foreign = model.node("Add", "x bias", "y", &[]).output("y").read();
    assert_eq!(foreign.graph.inputs().count(), 1);
}

#[test]
fn documentation_is_kept() {
    let mut model = negated(Model::new().input("x", &[-1, 2]));
    model.0.producer_name = Some("somebody".to_string());
    model.0.producer_version = Some("1.2".to_string());
    model.0.doc_string = Some("An energy.".to_string());
    model.graph().name = Some("main".to_string());
    model.graph().input[0].doc_string = Some("Pictures.".to_string());
    model.0.metadata_props = [
        ("author", "them"),
        (ebm_common::contract::CONTRACT_KEY, "{}"),
    ]
    .map(|(key, value)| proto::StringStringEntryProto {
        key: Some(key.to_string()),
        value: Some(value.to_string()),
    })
    .to_vec();
    let foreign = model.read();
    let origin = foreign.model().unwrap();
    assert_eq!(origin.contract, Some(serde_json::json!({})));
    assert_eq!(origin.producer, "somebody 1.2");
    let documentation = &origin.documentation;
    assert_eq!(documentation.name, "main");
    assert_eq!(documentation.text, "An energy.");
    assert_eq!(documentation.inputs["x"], "Pictures.");
    assert_eq!(
        documentation.entries,
        [("author".to_string(), "them".to_string())]
    );
}

#[test]
fn weights_that_one_file_cannot_hold_are_not_read() {
    let mut tensor = float_tensor("w", &[600_000_000], &[]);
    tensor.data_location = Some(DataLocation::External as i32);
    let model = Model::new().input("x", &[-1, 1]).initializer(tensor);
    let problem = model.node("Add", "x w", "y", &[]).output("y").problem();
    assert!(problem.contains("take 2.4 GB as f32"), "{problem}");
}

#[test]
fn a_weight_that_is_wrong_is_named() {
    let model =
        Model::new()
            .input("x", &[-1, 2])
            .initializer(float_tensor("layer.bias", &[3], &[1.0]));
    let problem = model
        .node("Add", "x layer.bias", "y", &[])
        .output("y")
        .problem();
    assert_eq!(
        problem,
        "weight \"layer.bias\": its shape [3] takes 3 elements, got 1"
    );
    let model = Model::new()
        .input("x", &[-1, 2])
        .initializer(int_tensor("i", &[-2], &[1]));
    let problem = model.node("Add", "x i", "y", &[]).output("y").problem();
    assert!(
        problem.contains("weight \"i\": its shape [-2] makes no sense"),
        "{problem}"
    );
}
