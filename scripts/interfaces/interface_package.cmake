# Turns the msg/ folder of an interface package into typesupport libraries and a Python package.
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(dependency IN LISTS INTERFACE_DEPENDENCIES)
  find_package(${dependency} REQUIRED)
endforeach()

# The Python targets in the wheels name include folders of the machine that built them, and CMake
# refuses folders that do not exist. The generated code needs none of them.
foreach(package IN ITEMS ${INTERFACE_DEPENDENCIES}
        action_msgs builtin_interfaces geometry_msgs service_msgs std_msgs unique_identifier_msgs)
  set(target ${package}::${package}__rosidl_generator_py)
  if(TARGET ${target})
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "")
  endif()
endforeach()

file(GLOB messages RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS msg/*.msg)
rosidl_generate_interfaces(${PROJECT_NAME} ${messages} DEPENDENCIES ${INTERFACE_DEPENDENCIES})

# Most of the time goes into headers that every C++ file includes: read them once per library.
foreach(library IN ITEMS rosidl_typesupport_c rosidl_typesupport_cpp rosidl_typesupport_fastrtps_c
        rosidl_typesupport_fastrtps_cpp)
  if(TARGET ${PROJECT_NAME}__${library})
    set_target_properties(${PROJECT_NAME}__${library} PROPERTIES
      UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  endif()
endforeach()

ament_export_dependencies(rosidl_default_runtime ${INTERFACE_DEPENDENCIES})
ament_package()
